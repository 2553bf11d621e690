"""The report as a page: one folder of HTML and pictures that opens in a browser without a server or a network."""
