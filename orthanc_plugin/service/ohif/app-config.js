// OHIF's configuration. The service serves this file in place of the one that OHIF ships (docs/viewer.md).
(() => {
  'use strict';

  // Modalities that are drawn on images, and the representation in which OHIF draws them.
  const OVERLAYS = { SEG: 'Labelmap', RTSTRUCT: 'Contour' };
  const isOverlay = displaySet => displaySet.Modality in OVERLAYS;

  // UIDs that the address names, in any case and as a list with commas, as OHIF reads them.
  const named = wanted => {
    const values = [...new URLSearchParams(window.location.search)].filter(([key]) => key.toLowerCase() === wanted);
    return new Set(values.flatMap(([, value]) => value.split(',')));
  };
  const isNamed = displaySet =>
    named('initialseriesinstanceuid').has(displaySet.SeriesInstanceUID) ||
    displaySet.instances?.some(({ SOPInstanceUID }) => named('initialsopinstanceuid').has(SOPInstanceUID));

  // Images first, and then what was made of them. Our results are numbered in the order in which they are read
  // (results/listing.py); OHIF itself sorts by time, which it does not know for segments.
  const FIRST_RESULT = 90_000_000;
  const numberOf = ({ SeriesNumber, seriesNumber }) => Number(SeriesNumber ?? seriesNumber ?? 0);
  const isResult = series =>
    numberOf(series) >= FIRST_RESULT || ['SEG', 'SR', 'RTSTRUCT', 'KO', 'PR'].includes(series.Modality ?? series.modality);
  const inReadingOrder = (one, other) => isResult(one) - isResult(other) || numberOf(one) - numberOf(other);

  // What is shown first: what the address names, or the images under it; else images that have segments; else images.
  const first = displaySets => {
    const under = overlay =>
      displaySets.find(({ displaySetInstanceUID }) => displaySetInstanceUID === overlay.referencedDisplaySetInstanceUID);
    const wanted = displaySets.find(isNamed);
    if (wanted) {
      return isOverlay(wanted) ? under(wanted) : wanted;
    }
    return (
      displaySets.find(image => displaySets.some(other => other.Modality === 'SEG' && under(other) === image)) ??
      displaySets.find(image => !isResult(image))
    );
  };

  // The segments of an image: those that the address names, else all; contours only if they are named.
  const overlaysOf = (image, displaySets) => {
    const all = displaySets.filter(
      other => isOverlay(other) && other.referencedDisplaySetInstanceUID === image.displaySetInstanceUID
    );
    const wanted = all.filter(isNamed);
    return wanted.length ? wanted : all.filter(({ Modality }) => Modality === 'SEG');
  };

  // The result page of the CT in the active viewport, or of the CT from which what is shown was made; where a report or
  // a picture is shown, the list of the study.
  const openResults = ({ displaySetService, viewportGridService }) => {
    const { activeViewportId, viewports } = viewportGridService.getState();
    const [uid] = viewports.get(activeViewportId)?.displaySetInstanceUIDs ?? [];
    const displaySets = displaySetService.getActiveDisplaySets();
    const by = wanted => displaySets.find(({ displaySetInstanceUID }) => displaySetInstanceUID === wanted);
    const shown = by(uid) ?? displaySets[0];
    const image = by(shown?.referencedDisplaySetInstanceUID) ?? shown;
    const path =
      image?.Modality === 'CT'
        ? `/enrichment/series/${encodeURIComponent(image.SeriesInstanceUID)}`
        : `/enrichment/?study=${encodeURIComponent(image?.StudyInstanceUID ?? '')}`;
    window.open(new URL(path, window.location.origin), '_blank', 'noopener');
  };
  const RESULTS_BUTTON = {
    id: 'EnrichmentResults',
    uiType: 'ohif.toolButton',
    props: {
      icon: 'launch-info',
      label: 'Results',
      tooltip: 'Open the result page of this series',
      commands: 'openEnrichmentResults',
      evaluate: 'evaluate.action',
    },
  };

  // OHIF cuts names of segmentations to one line, which would hide the model.
  const sheet = new CSSStyleSheet();
  const header = '.border-l-\\[2px\\]';
  sheet.replaceSync(
    `${header}:has(> .h-8) { height: auto; text-align: left; } ${header} > .h-8 { height: auto; min-height: 2rem; }`
  );
  document.adoptedStyleSheets.push(sheet);

  let subscription;
  const extension = {
    id: 'orthanc-enrichment',

    preRegistration({ servicesManager }) {
      const { hangingProtocolService } = servicesManager.services;
      hangingProtocolService.addCustomAttribute(
        'isShownFirst',
        'Whether a display set is shown first',
        (displaySet, options) => first(options?.displaySets ?? []) === displaySet
      );
      const { displaySetSelectors, stages } = hangingProtocolService.getProtocolById('default');
      displaySetSelectors.defaultDisplaySetId.seriesMatchingRules.push({
        attribute: 'isShownFirst',
        weight: 100,
        constraint: { equals: { value: true } },
      });
      // The first slice of a chest shows a neck: begin in the middle, unless the address names an image.
      stages[0].viewports[0].viewportOptions.initialImageOptions.defaultValue = { preset: 'middle' };
    },

    getCommandsModule: ({ servicesManager }) => ({
      defaultContext: 'DEFAULT',
      definitions: { openEnrichmentResults: { commandFn: () => openResults(servicesManager.services) } },
    }),

    // Each time a viewport is filled with images, their segments are added; a person may then remove them.
    onModeEnter({ servicesManager }) {
      const { cornerstoneViewportService, displaySetService, segmentationService, uiNotificationService } =
        servicesManager.services;

      const add = async (viewportId, overlay) => {
        const segmentationId = overlay.displaySetInstanceUID;
        try {
          await overlay.load({ headers: {} });
          if (segmentationService.getSegmentationRepresentations(viewportId, { segmentationId }).length) {
            return;
          }
          await segmentationService.addSegmentationRepresentation(viewportId, {
            segmentationId,
            type: OVERLAYS[overlay.Modality],
          });
          overlay.isHydrated = true;
        } catch (error) {
          console.error(error);
          uiNotificationService.show({
            title: overlay.SeriesDescription,
            message: 'These segments cannot be shown.',
            type: 'error',
          });
        }
      };

      subscription = cornerstoneViewportService.subscribe(
        cornerstoneViewportService.EVENTS.VIEWPORT_DATA_CHANGED,
        async ({ viewportId, viewportData }) => {
          const [shown] = [viewportData?.data].flat();
          const image = shown && displaySetService.getDisplaySetByUID(shown.displaySetInstanceUID);
          if (!image || isOverlay(image)) {
            return;
          }
          for (const overlay of overlaysOf(image, displaySetService.getActiveDisplaySets())) {
            await add(viewportId, overlay);
          }
        }
      );
    },

    onModeExit: () => subscription?.unsubscribe(),
  };

  window.config = {
    routerBasename: null,
    extensions: [extension],
    modes: [],
    customizationService: {
      global: {
        sortingCriteria: { $set: inReadingOrder },
        // Every segmentation under its own name: two models may have found the same structure.
        'panelSegmentation.tableMode': { $set: 'expanded' },
        'cornerstone.toolbarButtons': { $push: [RESULTS_BUTTON] },
        'cornerstone.toolbarSections': { primary: { $push: [RESULTS_BUTTON.id] } },
      },
    },
    // The panel with names and colours of the segments is open where there is room for it.
    modesConfiguration: {
      '@ohif/mode-longitudinal': {
        routes: { 0: { layoutInstance: { props: { rightPanelClosed: { $set: window.innerWidth < 1200 } } } } },
      },
    },
    showStudyList: true,
    maxNumberOfWebWorkers: 2,
    investigationalUseDialog: { option: 'never' },
    disableConfirmationPrompts: true,
    showWarningMessageForCrossOrigin: false,
    defaultDataSourceName: 'dicomweb',
    dataSources: [
      {
        namespace: '@ohif/extension-default.dataSourcesModule.dicomweb',
        sourceName: 'dicomweb',
        configuration: {
          friendlyName: 'Orthanc',
          name: 'orthanc',
          qidoRoot: '/dicom-web',
          wadoRoot: '/dicom-web',
          wadoUriRoot: '/wado',
          imageRendering: 'wadors',
          thumbnailRendering: 'wadors',
          enableStudyLazyLoad: true,
          qidoSupportsIncludeField: false,
          supportsFuzzyMatching: false,
          supportsWildcard: true,
          omitQuotationForMultipartRequest: true,
          bulkDataURI: { enabled: true, relativeResolution: 'studies' },
        },
      },
    ],
  };
})();
