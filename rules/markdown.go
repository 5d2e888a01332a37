package rules

import (
	"fmt"
	"strings"
)

const intro = `A rule touches only by-products of a tool, and only if nothing that a person made is lost:

- Only what a RUN made. What COPY and ADD bring from a context, an image or a URL stays byte for byte. What COPY takes
  from a stage stays if its source is a path of the rule or below one, a pattern that matches one, or a folder of caches or
  logs; if the source is a folder far above, such as / or /root, it counts as what the RUNs of that stage made.
- The content decides. A rule checks the format that its tool writes, and a file that has another stays.
- A change to what lower layers have is undone only if the tool makes it by itself: a log that grew, a cache that was
  written again. A file that was emptied, deleted, replaced by a link, or given another mode or owner stays so.
- A file whose content lower layers have, also under another name, stays: it was moved or copied. So does one whose
  lines stand in its instruction, or in a script that COPY brought and that names a path of the rules (a script begins
  with #!, or its name ends with .sh or has no ending), and one that is older than the epoch: it was unpacked. A RUN with
  a bind mount may copy from there: what it names stays.
- What a variable, a label, WORKDIR, HEALTHCHECK, ONBUILD, the command, the script that the command runs or a symbolic
  link names stays, with all below it, if it is a path of the rule or below one. So does everything at or below a VOLUME.
- A file that the Dockerfile, or a small text that COPY brought, names stays: by its path, by a pattern, or by its name
  beside its folder. Comments and what rm, truncate and mounts name do not count, nor what a RUN reads, as with grep, or
  redirects output to.
- A file with an extended attribute stays.
- Folders stay, except those with names that a tool made up, and a usual mode.
- A file stays if its MD5, SHA-1, SHA-2, BLAKE2b or git digest stands anywhere in the image, also in a name or in binary,
  or if it is a recorded download of a RUN. An archive stays if a signature, or any file with its name and one more
  ending, is beside it, if a small text has its name in a line with a number, as lists of other checksums have, and if the
  image has the same bytes under a name that no rule knows.
- A time that is later than the file that holds it stays: a person chose it.

` + "`--normalize=-ID`" + ` switches a rule off, ` + "`--normalize=none`" + ` all of them; ` + "`# kedge: keep=PATH`" + ` above an
instruction keeps what its layer has at PATH and below. If a rule drops a change, the file of the layers below stays.
` + "`~`" + ` is /root and every folder in /home; a path stands for everything below it, too, and ` + "`PATH/**`" + ` only for that.
A lockfile with ` + "`rules = 1`" + ` has the rules of version 1, until kedge lock --refresh moves it.
`

// Markdown renders the normalisation rules as the page docs/rules.md.
func Markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# What kedge does to a layer\n\n")
	fmt.Fprintf(&b, "Generated from the package `rules`; rules version %d. The layers of base images are never touched.\n", Version)
	fmt.Fprintf(&b, "The order of entries and everything not named here stay as BuildKit made them.\n")
	fmt.Fprintf(&b, "\n# Rules\n\n")
	fmt.Fprint(&b, intro)
	for _, r := range table {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n%s See <%s>.\n", r.ID, r.What, r.Why, r.Link)
		fmt.Fprintf(&b, "\nNever: %s\n", r.Never)
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
