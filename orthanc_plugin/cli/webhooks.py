"""The commands of `orthanc-enrich webhooks`: list the webhooks of the configuration, and try one out."""

from __future__ import annotations

import secrets

from orthanc_plugin.audit.event import What
from orthanc_plugin.cli.desk import Commands, Desk


def add_commands(commands: Commands) -> None:
    """Add the commands."""
    commands.add("list", list_webhooks, "list the webhooks of the configuration, without their secrets")
    tried = commands.add("test", try_webhook, "send a signed notice of the event `test`, and print the answer")
    tried.add_argument("name", help="name of the webhook")


def list_webhooks(desk: Desk) -> None:
    """List the webhooks."""
    webhooks = {name: [w.url, *w.events] for name, w in desk.configuration.webhooks.items()}
    if desk.options.json:
        desk.print_json(webhooks)
        return
    for name, (url, *events) in webhooks.items():
        desk.console.print(f"{name}: {url} ({', '.join(events)})", soft_wrap=True, markup=False)


def try_webhook(desk: Desk) -> None:
    """Send a notice to one webhook."""
    from datetime import UTC, datetime

    from orthanc_plugin.jobs.webhooks import try_out

    desk.acts(What.SETTINGS)
    name = desk.options.name
    said = try_out(desk.configuration.webhooks, name, f"test-{secrets.token_hex(16)}", datetime.now(UTC))
    desk.say({"webhook": name, "answer": said})
