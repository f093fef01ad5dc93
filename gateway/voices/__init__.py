"""Voices that tenants upload: checked, decoded, stored and removed."""
