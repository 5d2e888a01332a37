package lint

import (
	"fmt"
	"strings"
)

// Practices are the seven practices against drift, in the order of their numbers.
var Practices = []string{
	"Build args", "Pinned sources", "One target", "Downloads", "Compile options", "Compiled outside", "Libraries",
}

const intro = `# What kedge lint finds

Generated from the package ` + "`lint`" + `. [practices.md](practices.md) says what the seven practices are for, and what kedge does by itself.

    kedge lint [PATH]

reads the Dockerfile, the context as .dockerignore leaves it, what git tracks of it, the lockfile, and at the top of the context compose files, docker-bake.json, docker-bake.hcl,
GitHub's workflows, .gitlab-ci.yml, and the sh steps and docker.build calls of a Jenkinsfile. It builds nothing, runs nothing and needs no builder and no network. Commands are parsed, not matched by patterns: those in ` + "`sh -c`" + `, here-documents, the exec form,
ONBUILD and after sudo or env count, and those that are only echoed do not. What a variable holds only at build time stays unknown, and unknown is no finding.

An error breaks a build, or lets someone else decide what runs. A warning lets two builds differ. A remark (` + "`info`" + `)
matters less: a tag with a version, which its owner can move; a compiler option that may come from outside; and what is found in a stage that the one
that ships does not come from, because it is not built. Exit code 0: no error, 3: an error, 1: it could not read the Dockerfile or its context,
or a rule needs a file of more than 32 MiB, or of 1 MiB at the top of the context.

- ` + "`# kedge: ignore=ID reason`" + ` above an instruction allows what a rule finds there; several ids have commas between them. ` + "`# hadolint ignore=`" + `
  counts for the rules of hadolint about the same matter, which are named below.
- ` + "`# kedge: prebuilt=PATH reason`" + ` anywhere allows a compiled file of the context, a folder or a pattern.
- ` + "`--diff`" + ` prints a patch with the fixes that change nothing else, and ` + "`--fix`" + ` writes it.
- ` + "`--format json|markdown|sarif|github`" + `: text shows three findings of a rule, the others all. SARIF is version 2.1.0; its fingerprints do not
  contain lines, so that a finding stays the same when code above it moves. ` + "`github`" + ` prints commands of GitHub Actions.
- ` + "`kedge build`" + ` prints the count of errors and warnings; ` + "`--lint=error`" + ` builds nothing if there is an error, and ` + "`--lint=off`" + ` does not look.
- The rules of practice 4 are silent once ` + "`kedge lock --downloads`" + ` has locked what RUN steps download.
- No rule asks for versions of apt packages: they leave the mirror in weeks, and the pin is what then breaks the build.
`

// Markdown renders the rules as the page docs/lint.md.
func Markdown() string {
	var b strings.Builder
	b.WriteString(intro)
	for n, name := range Practices {
		fmt.Fprintf(&b, "\n# %d. %s\n", n+1, name)
		for _, r := range Rules {
			if r.Practice != n+1 {
				continue
			}
			fmt.Fprintf(&b, "\n## %s\n\n%s: %s. %s\n\nFix: %s\n", r.ID, strings.ToUpper(string(r.Level[:1]))+string(r.Level[1:]), r.What, r.Why, sentence(r.Fix))
			if len(r.hadolint) > 0 {
				fmt.Fprintf(&b, "\nhadolint: %s\n", strings.Join(r.hadolint, ", "))
			}
			if r.Link != "" {
				fmt.Fprintf(&b, "\nSee <%s>.\n", r.Link)
			}
		}
		if name == "Libraries" {
			b.WriteString("\n## Ecosystems\n\n| ecosystem | manifest | lockfile | written by |\n| --- | --- | --- | --- |\n")
			for _, e := range ecosystems {
				fmt.Fprintf(&b, "| %s | %s | %s | `%s` |\n", e.name, code(e.manifests), code(e.locks), e.write)
			}
		}
	}
	b.WriteString(measured)
	return b.String()
}

// sentence returns a fix that is a command alone as code.
func sentence(fix string) string {
	if strings.HasSuffix(fix, ".") {
		return fix
	}
	return "`" + fix + "`"
}

func code(names []string) string {
	var out []string
	for _, n := range names {
		out = append(out, "`"+n+"`")
	}
	return strings.Join(out, ", ")
}

const measured = `
# How right it is

Run in November 2026 over Dockerfiles that others wrote, without their lockfiles, each with its folder as the context. All findings were read:

| | Dockerfiles | with findings | errors | warnings | remarks | right |
| --- | --- | --- | --- | --- | --- | --- |
| sources of 93 Go modules (BuildKit, Moby, Kubernetes, Vault, Cilium, Beam, Loki …) | 505 | 203 | 13 | 286 | 77 | 374 of 376 (99 %) |
| a sample of Debian's source packages | 67 | 34 | 4 | 83 | 1 | 88 of 88 |
| npm packages | 18 | 8 | 0 | 14 | 3 | 17 of 17 |
| another sample of Debian's source packages | 200 | 126 | 11 | 204 | 15 | 228 of 230 (99 %) |
| small contexts for Debian packages, and applications in twelve languages | 31 | 8 | 0 | 8 | 0 | 8 of 8 |

The rules were mended by the first three rows: before that, 33 of 474 findings there were wrong, more than half of them in three Dockerfiles that check their
downloads in a later RUN. The fourth was read with the mended rules; its two wrong findings, which took a short commit hash for a branch, are mended since.
The two that are left take the revision of a package for one of a repository. No Dockerfile has more than 22 findings, and text shows three of each rule.

What it overlooks was not measured. It does not know what scripts of the context do, what a base image's ONBUILD does, or what HCL files of bake compute.
Whether a digest in the Dockerfile is another platform's only the registry knows: kedge build warns of it (InvalidBaseImagePlatform), and kedge promote
does not copy such an image.
`
