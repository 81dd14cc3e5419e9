"""Programs that hooks of the chart run: before an upgrade, in a test, and at the end of an uninstall."""
