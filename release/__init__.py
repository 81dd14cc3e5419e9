"""The steps of a release, used by the release workflow and by ``make release-dry-run``."""
