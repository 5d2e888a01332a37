package rules

import (
	"fmt"
	"strings"
)

// Markdown renders the normalisation rules as the page docs/rules.md.
func Markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# What kedge does to a layer\n\n")
	fmt.Fprintf(&b, "Generated from the package `rules`; rules version %d. The layers of base images are never touched.\n", Version)
	fmt.Fprintf(&b, "The order of entries and everything not named here stay as BuildKit made them.\n")
	fmt.Fprintf(&b, "\n# Rules\n\n")
	fmt.Fprintf(&b, "`--normalize=-ID` switches a rule off, `--normalize=none` all of them; `# kedge: keep=PATH` above an\n")
	fmt.Fprintf(&b, "instruction keeps what its layer has at PATH and below. Of a file that a rule drops the layer does not carry the\n")
	fmt.Fprintf(&b, "change: where the base image has it, that one stays. `~` is /root and every folder in /home; a path\n")
	fmt.Fprintf(&b, "stands for all below it, too, and `PATH/**` only for that.\n")
	for _, r := range table {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n%s See <%s>.\n", r.ID, r.What, r.Why, r.Link)
		if len(r.paths) > 0 {
			fmt.Fprintf(&b, "\n")
		}
		for _, p := range r.paths {
			fmt.Fprintf(&b, "- `%s`\n", shown(p))
		}
	}
	fmt.Fprintf(&b, "\n# Form\n\nWhat happens to every entry, whatever the rules.\n")
	for _, f := range forms {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n%s See <%s>.\n", f.id, f.what, f.why, f.link)
	}
	return b.String()
}

// shown returns a pattern as documents have it.
func shown(pattern string) string {
	if strings.HasPrefix(pattern, "~") || strings.HasPrefix(pattern, "**") {
		return pattern
	}
	return "/" + pattern
}
