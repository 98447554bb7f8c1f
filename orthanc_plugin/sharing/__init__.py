"""Cohorts without identities: CT, SEG, SR and RT structure sets de-identified together, and written as folders."""
