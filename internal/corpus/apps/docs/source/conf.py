project = "greet"
html_last_updated_fmt = "%Y-%m-%d"
extensions = ["sphinx.ext.autodoc"]
man_pages = [("index", "greet", "greets", ["kedge"], 1)]
