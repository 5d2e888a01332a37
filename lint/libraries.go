package lint

import (
	"bytes"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/kedge-build/kedge/internal/shell"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
)

// An ecosystem is how the libraries of a language are named and locked.
type ecosystem struct {
	name      string
	manifests []string // file names
	locks     []string // file names, the usual one first
	write     string   // a command that writes the lockfile
	// installs returns whether words install what the manifest names, and what to write so that the lockfile
	// decides; no such fix if it does already. args are the words after the program's name.
	installs func(program string, args []string, i *instruction) (installs bool, fix string)
	programs []string
	// fits returns why a lockfile does not fit its manifest, or "".
	fits func(manifest, lock []byte) string
	// empty reports whether a manifest names no library that is downloaded; nil: it always may.
	empty func(manifest []byte) bool
}

// flag reports whether one of the words is an option, alone or with a value.
func flag(args []string, names ...string) bool {
	return slices.ContainsFunc(args, func(a string) bool {
		name, _, _ := strings.Cut(a, "=")
		return slices.Contains(names, a) || slices.Contains(names, name) && !strings.HasSuffix(a, "=false")
	})
}

// plain returns the words that are no options.
func plain(args []string) []string {
	return slices.DeleteFunc(slices.Clone(args), func(a string) bool { return strings.HasPrefix(a, "-") })
}

// sub reports whether the first word that is no option is one of names.
func sub(args []string, names ...string) bool {
	p := plain(args)
	return len(p) > 0 && slices.Contains(names, p[0])
}

// bare reports whether there is nothing but a subcommand: no names of packages.
func bare(args []string) bool { return len(plain(args)) == 1 }

var ecosystems = []ecosystem{
	{
		name: "npm", manifests: []string{"package.json"}, locks: []string{"package-lock.json", "npm-shrinkwrap.json"}, write: "npm install --package-lock-only",
		programs: []string{"npm"}, fits: npmFits, empty: npmEmpty,
		installs: func(_ string, args []string, _ *instruction) (bool, string) {
			if sub(args, "ci", "clean-install", "install-clean", "cit", "install-ci-test") {
				return true, ""
			}
			return sub(args, "install", "i", "in", "add", "it", "install-test") && bare(withoutValues(args, npmValues)) && !flag(args, "-g", "--global"), "npm ci"
		},
	},
	{
		name: "Yarn", manifests: []string{"package.json"}, locks: []string{"yarn.lock"}, write: "yarn install",
		programs: []string{"yarn", "yarnpkg"},
		installs: func(_ string, args []string, i *instruction) (bool, string) {
			if rest := plain(args); len(rest) > 0 && !slices.Equal(rest, []string{"install"}) || flag(args, "--version", "-v", "--help") {
				return false, ""
			}
			if flag(args, "--frozen-lockfile", "--immutable", "--immutable-cache") || i.env["YARN_ENABLE_IMMUTABLE_INSTALLS"] == "true" || i.env["CI"] != "" {
				return true, ""
			}
			return true, "yarn install --frozen-lockfile (--immutable with Yarn 2 and later)"
		},
	},
	{
		name: "pnpm", manifests: []string{"package.json"}, locks: []string{"pnpm-lock.yaml"}, write: "pnpm install --lockfile-only",
		programs: []string{"pnpm"}, fits: pnpmFits,
		installs: func(_ string, args []string, i *instruction) (bool, string) {
			if sub(args, "fetch", "ci") {
				return true, ""
			}
			if !sub(args, "install", "i") || !bare(withoutValues(args, npmValues)) || flag(args, "-g", "--global") {
				return false, ""
			}
			if flag(args, "--frozen-lockfile", "--offline") || i.env["CI"] != "" {
				return true, ""
			}
			return true, "pnpm install --frozen-lockfile"
		},
	},
	{
		name: "Bun", manifests: []string{"package.json"}, locks: []string{"bun.lock", "bun.lockb"}, write: "bun install",
		programs: []string{"bun"},
		installs: func(_ string, args []string, _ *instruction) (bool, string) {
			if sub(args, "ci") || sub(args, "install", "i") && flag(args, "--frozen-lockfile") {
				return true, ""
			}
			return sub(args, "install", "i") && bare(args), "bun install --frozen-lockfile"
		},
	},
	{
		name: "Poetry", manifests: []string{"pyproject.toml"}, locks: []string{"poetry.lock"}, write: "poetry lock",
		programs: []string{"poetry"}, fits: poetryFits,
		installs: func(_ string, args []string, _ *instruction) (bool, string) {
			return sub(args, "install", "sync"), ""
		},
	},
	{
		name: "uv", manifests: []string{"pyproject.toml"}, locks: []string{"uv.lock"}, write: "uv lock",
		programs: []string{"uv"}, fits: uvFits,
		installs: func(_ string, args []string, i *instruction) (bool, string) {
			if !sub(args, "sync") && !sub(args, "run") {
				return false, ""
			}
			if flag(args, "--locked", "--frozen") || i.env["UV_LOCKED"] != "" || i.env["UV_FROZEN"] != "" || flag(args, "--no-project", "--no-sync") {
				return true, ""
			}
			return true, "uv " + plain(args)[0] + " --locked"
		},
	},
	{
		name: "Pipenv", manifests: []string{"Pipfile"}, locks: []string{"Pipfile.lock"}, write: "pipenv lock",
		programs: []string{"pipenv"},
		installs: func(_ string, args []string, _ *instruction) (bool, string) {
			if sub(args, "sync") || sub(args, "install") && flag(args, "--deploy", "--ignore-pipfile") {
				return true, ""
			}
			return sub(args, "install") && bare(args), "pipenv install --deploy"
		},
	},
	{
		name: "PDM", manifests: []string{"pyproject.toml"}, locks: []string{"pdm.lock"}, write: "pdm lock",
		programs: []string{"pdm"},
		installs: func(_ string, args []string, _ *instruction) (bool, string) {
			if sub(args, "sync") || sub(args, "install") && flag(args, "--frozen-lockfile", "--no-lock", "--check") {
				return true, ""
			}
			return sub(args, "install"), "pdm sync"
		},
	},
	{
		name: "Go", manifests: []string{"go.mod"}, locks: []string{"go.sum"}, write: "go mod tidy",
		programs: []string{"go"}, fits: goFits, empty: func(m []byte) bool { return goFits(m, nil) == "" },
		installs: func(_ string, args []string, i *instruction) (bool, string) {
			if len(args) > 1 && args[0] == "mod" && args[1] == "tidy" {
				writes := slices.ContainsFunc(i.commands, func(c shell.Command) bool { return c.Name() != "go" && slices.Contains(c.Words, "go.sum") })
				return !writes, "go mod download" // a RUN that then copies or compares go.sum is there to write it
			}
			if len(args) > 1 && args[0] == "mod" && args[1] == "download" || sub(args, "build", "install", "test", "run") {
				if flag(args, "-mod") && slices.Contains(args, "-mod=mod") {
					return true, "-mod=readonly, the default"
				}
				return true, ""
			}
			return false, ""
		},
	},
	{
		name: "Cargo", manifests: []string{"Cargo.toml"}, locks: []string{"Cargo.lock"}, write: "cargo generate-lockfile",
		programs: []string{"cargo"}, fits: cargoFits, empty: func(m []byte) bool { return cargoFits(m, nil) == "" && !bytes.Contains(m, []byte("[workspace]")) },
		installs: func(_ string, args []string, _ *instruction) (bool, string) {
			if sub(args, "update", "generate-lockfile") {
				return true, "cargo fetch --locked"
			}
			if builds := sub(args, "build", "b", "run", "r", "test", "t", "fetch", "rustc", "check", "c"); !builds && (!sub(args, "install") || !flag(args, "--path")) {
				return false, ""
			}
			if flag(args, "--locked", "--frozen", "--offline") {
				return true, ""
			}
			return true, "cargo " + plain(args)[0] + " --locked"
		},
	},
	{
		name: "Composer", manifests: []string{"composer.json"}, locks: []string{"composer.lock"}, write: "composer update --no-install",
		programs: []string{"composer", "composer.phar"}, fits: composerFits, empty: composerEmpty,
		installs: func(_ string, args []string, _ *instruction) (bool, string) {
			if sub(args, "install", "i") {
				return true, ""
			}
			return sub(args, "update", "u", "upgrade") && bare(args), "composer install"
		},
	},
	{
		name: "Bundler", manifests: []string{"Gemfile"}, locks: []string{"Gemfile.lock"}, write: "bundle lock",
		programs: []string{"bundle", "bundler"}, fits: bundlerFits,
		installs: func(_ string, args []string, i *instruction) (bool, string) {
			if sub(args, "update") {
				return true, "bundle install with BUNDLE_FROZEN=true"
			}
			if len(plain(args)) > 0 && !sub(args, "install") {
				return false, ""
			}
			config := false
			for _, s := range i.stage.chain() {
				for _, other := range s.instructions {
					for _, c := range other.commands {
						text := strings.Join(c.Words, " ")
						config = config || c.Name() == "bundle" && strings.Contains(text, "config") && (strings.Contains(text, "deployment") || strings.Contains(text, "frozen"))
					}
				}
			}
			if config || flag(args, "--deployment", "--frozen") || i.env["BUNDLE_FROZEN"] != "" || i.env["BUNDLE_DEPLOYMENT"] != "" {
				return true, ""
			}
			return true, "ENV BUNDLE_FROZEN=true above it"
		},
	},
	{
		name: "NuGet", manifests: nil, locks: []string{"packages.lock.json"}, write: "dotnet restore --use-lock-file",
		programs: []string{"dotnet"},
		installs: func(_ string, args []string, _ *instruction) (bool, string) {
			if !sub(args, "restore") || flag(args, "--locked-mode") || slices.Contains(args, "-p:RestoreLockedMode=true") {
				return sub(args, "restore"), ""
			}
			return true, "dotnet restore --locked-mode"
		},
	},
	{
		name: "Mix", manifests: []string{"mix.exs"}, locks: []string{"mix.lock"}, write: "mix deps.get",
		programs: []string{"mix"},
		installs: func(_ string, args []string, _ *instruction) (bool, string) {
			if sub(args, "deps.update") {
				return true, "mix deps.get --check-locked"
			}
			if sub(args, "deps.get") && !flag(args, "--check-locked") {
				return true, "mix deps.get --check-locked"
			}
			return sub(args, "deps.get"), ""
		},
	},
	{
		name: "Dart", manifests: []string{"pubspec.yaml"}, locks: []string{"pubspec.lock"}, write: "dart pub get",
		programs: []string{"dart", "flutter"},
		installs: func(program string, args []string, _ *instruction) (bool, string) {
			p := plain(args)
			if len(p) < 2 || p[0] != "pub" || p[1] != "get" && p[1] != "upgrade" {
				return false, ""
			}
			if p[1] == "get" && flag(args, "--enforce-lockfile") {
				return true, ""
			}
			return true, program + " pub get --enforce-lockfile"
		},
	},
	{
		name: "Swift", manifests: []string{"Package.swift"}, locks: []string{"Package.resolved"}, write: "swift package resolve",
		programs: []string{"swift"},
		installs: func(_ string, args []string, _ *instruction) (bool, string) {
			if !sub(args, "build", "package") || sub(args, "package") && !slices.Contains(args, "resolve") {
				return false, ""
			}
			if flag(args, "--force-resolved-versions", "--disable-automatic-resolution", "--only-use-versions-from-resolved-file") {
				return true, ""
			}
			return true, "swift " + strings.Join(plain(args), " ") + " --force-resolved-versions"
		},
	},
	{
		name: "Terraform", manifests: nil, locks: []string{".terraform.lock.hcl"}, write: "terraform init",
		programs: []string{"terraform", "tofu"},
		installs: func(program string, args []string, _ *instruction) (bool, string) {
			if !sub(args, "init") || slices.Contains(args, "-lockfile=readonly") || slices.Contains(args, "-backend=false") {
				return sub(args, "init"), ""
			}
			return true, program + " init -lockfile=readonly"
		},
	},
	{
		name: "Helm", manifests: []string{"Chart.yaml"}, locks: []string{"Chart.lock"}, write: "helm dependency update",
		programs: []string{"helm"},
		installs: func(_ string, args []string, _ *instruction) (bool, string) {
			p := plain(args)
			if len(p) < 2 || p[0] != "dependency" && p[0] != "dep" {
				return false, ""
			}
			if p[1] == "build" {
				return true, ""
			}
			return p[1] == "update" || p[1] == "up", "helm dependency build"
		},
	},
}

// foreign reports whether a file is in a folder whose manifests are not the project's own.
func foreign(name string) bool {
	return slices.ContainsFunc(strings.Split(path.Dir(name), "/"), func(dir string) bool {
		return slices.Contains([]string{"node_modules", "vendor", "testdata", "third_party", "fixtures", "examples"}, dir)
	})
}

// brought returns the context's files with one of these names that the stage of i has when i runs, and
// whether it may have files that are not known: from another stage, a URL or a clone.
func (p *project) brought(i *instruction, names []string) (found []string, unknown bool) {
	for _, s := range i.stage.chain() {
		for _, before := range s.instructions {
			if before != i {
				switch cmd := before.cmd.(type) {
				case *instructions.CopyCommand:
					unknown = unknown || cmd.From != ""
				case *instructions.AddCommand:
					unknown = unknown || slices.ContainsFunc(cmd.SourcePaths, func(s string) bool {
						return strings.Contains(s, "://") || strings.HasSuffix(s, ".git") || strings.Contains(s, ".tar")
					})
				}
				unknown = unknown || slices.ContainsFunc(before.commands, func(c shell.Command) bool {
					return slices.Contains([]string{"git", "tar", "unzip", "bsdtar"}, c.Name())
				})
			}
			if c, ok := before.copies(); ok && (before == i) == isRun(before) {
				for _, name := range p.files {
					if slices.Contains(names, path.Base(name)) && c.takes(name) && !foreign(name) {
						found = append(found, name)
					}
				}
			}
			if before == i {
				return found, unknown
			}
		}
	}
	return found, unknown
}

func isRun(i *instruction) bool { _, ok := i.cmd.(*instructions.RunCommand); return ok }

// An install is a command that installs libraries by a manifest.
type install struct {
	*ecosystem
	i     *instruction
	c     shell.Command
	fix   string // empty if it heeds the lockfile
	named []string
	locks []string
}

// installs calls each with the install commands whose manifests come from the context.
func (p *project) installs(each func(install)) {
	p.commands(func(i *instruction, _ int, c shell.Command) {
		if i.stage == nil {
			return
		}
		for n := range ecosystems {
			e := &ecosystems[n]
			if !slices.Contains(e.programs, c.Name()) {
				continue
			}
			installs, fix := e.installs(c.Name(), c.Words[1:], i)
			if !installs {
				continue
			}
			named, _ := p.brought(i, e.manifests)
			locks, unknown := p.brought(i, e.locks)
			if len(e.manifests) > 0 && len(named) == 0 || unknown && len(locks) == 0 {
				continue
			}
			each(install{e, i, c, fix, named, locks})
		}
	})
}

func checkUnlockedInstall(p *project, add func(Finding)) {
	p.installs(func(in install) {
		if len(in.locks) == 0 || in.fix == "" {
			return
		}
		f := Finding{Line: p.at(in.i, in.c), Message: fmt.Sprintf("%s does not insist on %s", strings.Join(head(in.c.Words, 3), " "), path.Base(in.locks[0])), Fix: in.fix}
		if in.name == "npm" && len(in.c.Words) > 1 && strings.Contains(p.lines[f.Line-1], "npm "+in.c.Words[1]) {
			f.Edit = &Edit{Line: f.Line, Old: "npm " + in.c.Words[1], New: "npm ci"}
		}
		if old := strings.Join(head(in.c.Words, 2), " "); slices.Contains([]string{"pnpm", "Bun", "Cargo", "uv", "NuGet"}, in.name) {
			if option := in.fix[strings.Index(in.fix, " --")+1:]; strings.HasPrefix(option, "--") {
				f.Edit = &Edit{Line: f.Line, Old: old, New: old + " " + option}
			}
		}
		add(f)
	})
}

func head(words []string, n int) []string { return words[:min(n, len(words))] }

func checkMissingLock(p *project, add func(Finding)) {
	said := map[string]bool{} // one finding for each manifest
	p.installs(func(in install) {
		if len(in.locks) > 0 || len(in.named) == 0 || said[in.name+" "+in.named[0]] || flag(in.c.Words, "--offline", "--local") || p.empty(in) {
			return
		}
		said[in.name+" "+in.named[0]] = true
		for _, other := range ecosystems { // package.json is the manifest of several
			if slices.ContainsFunc(other.manifests, func(m string) bool { return slices.Contains(in.manifests, m) }) {
				if locks, _ := p.brought(in.i, other.locks); len(locks) > 0 {
					return
				}
			}
		}
		dir := path.Dir(in.named[0])
		beside := func(files []string) string {
			for _, name := range files {
				if slices.Contains(in.ecosystem.locks, path.Base(name)) && (path.Dir(name) == dir || path.Dir(name) == ".") {
					return name
				}
			}
			return ""
		}
		line := p.at(in.i, in.c)
		switch name := in.ecosystem.locks[0]; {
		case beside(p.left) != "":
			add(Finding{Line: line, Level: Error, Message: fmt.Sprintf("%s is left out by .dockerignore, so %s takes the newest versions", beside(p.left), in.c.Name()), Fix: fmt.Sprintf("Take %s out of .dockerignore, and copy it beside %s.", beside(p.left), in.named[0])})
		case beside(p.files) != "":
			add(Finding{Line: line, Message: fmt.Sprintf("%s is not there yet when %s runs", beside(p.files), strings.Join(head(in.c.Words, 2), " ")), Fix: fmt.Sprintf("Copy it together with %s, before this instruction.", in.named[0])})
		default:
			add(Finding{Line: line, Message: fmt.Sprintf("%s has no %s, so %s takes the newest versions", in.named[0], name, strings.Join(head(in.c.Words, 2), " ")), Fix: fmt.Sprintf("Run %s, commit %s, and copy it beside %s.", in.write, name, in.named[0])})
		}
	})
}

// empty reports whether no manifest of an install names a library that is downloaded.
func (p *project) empty(in install) bool {
	return in.empty != nil && !slices.ContainsFunc(in.named, func(name string) bool {
		data, err := p.read(name, maxManifest)
		return err != nil || !in.empty(data)
	})
}

// checkUnversioned looks at programs that install packages by name: without a version they take the newest.
func checkUnversioned(p *project, add func(Finding)) {
	p.commands(func(i *instruction, _ int, c shell.Command) {
		args := c.Words[1:]
		var names []string
		fix := ""
		switch name := c.Name(); {
		case (name == "npm" && sub(args, "install", "i", "add") || name == "pnpm" && sub(args, "add", "install", "i")) && len(plain(args)) > 1:
			for _, w := range plain(withoutValues(args, npmValues))[1:] {
				if at := strings.LastIndex(w, "@"); at <= 0 || w[at+1:] == "latest" || w[at+1:] == "next" {
					names = append(names, w)
				}
			}
			fix = "Give each a version, NAME@1.2.3, or make it a dependency of a package.json with a lockfile."
		case name == "npx" || name == "pnpx" || name == "bunx":
			if rest := plain(args); len(rest) > 0 && !flag(args, "--no-install", "--no", "--version") && strings.HasSuffix(rest[0], "@latest") {
				names = append(names, rest[0])
			}
			fix = "Name a version, NAME@1.2.3, or a dependency of package.json."
		case name == "go" && len(args) > 1 && (args[0] == "install" || args[0] == "get" || args[0] == "run"):
			for _, w := range args[1:] {
				if strings.HasSuffix(w, "@latest") || strings.HasSuffix(w, "@master") || strings.HasSuffix(w, "@main") {
					names = append(names, w)
				}
			}
			fix = "Name a version: MODULE@v1.2.3."
		case name == "cargo" && sub(args, "install") && !flag(args, "--path", "--locked", "--version", "--git", "--list"):
			names = plain(args)[1:]
			fix = "cargo install --locked NAME --version =1.2.3."
		case name == "gem" && sub(args, "install", "i") && !flag(args, "-v", "--version", "-g", "--file"):
			for _, w := range plain(args)[1:] {
				if !strings.HasSuffix(w, ".gem") && !strings.Contains(w, ":") {
					names = append(names, w)
				}
			}
			fix = "gem install NAME -v 1.2.3, or a Gemfile with its lock."
		case isPip(c) && pipInstalls(args):
			names = pipNames(args)
			fix = "Name a version, NAME==1.2.3, or use a requirements file with hashes (pip install --require-hashes -r FILE)."
		}
		names = slices.DeleteFunc(names, func(n string) bool {
			return strings.ContainsAny(n, "$*") || strings.HasPrefix(n, ".") || strings.HasPrefix(n, "/") || strings.Contains(n, "://") || n == ""
		})
		if len(names) > 0 {
			more := ""
			if len(names) > mostNamed {
				more = fmt.Sprintf(" and %d more", len(names)-mostNamed)
			}
			add(Finding{Line: p.at(i, c), Message: fmt.Sprintf("%s takes the newest version of %s%s", strings.Join(head(c.Words, 2), " "), strings.Join(head(names, mostNamed), ", "), more), Fix: fix})
		}
	})
}

func isPip(c shell.Command) bool {
	name := c.Name()
	return strings.HasPrefix(name, "pip") && strings.Trim(strings.TrimPrefix(name, "pip"), "0123456789.") == ""
}

func pipInstalls(args []string) bool {
	return sub(args, "install") && !flag(args, "--no-index", "--require-hashes", "-r", "--requirement", "-c", "--constraint", "--group")
}

// pipValues are options of pip whose next word is their value.
var pipValues = []string{
	"-r", "--requirement", "-c", "--constraint", "-e", "--editable", "-t", "--target", "-i", "--index-url", "--extra-index-url", "-f", "--find-links", "--prefix", "--root",
	"--src", "--platform", "--python-version", "--implementation", "--abi", "--trusted-host", "--timeout", "--retries", "--proxy", "--progress-bar", "--no-binary", "--only-binary", "--cache-dir", "--log",
	"--upgrade-strategy", "--config-settings", "-C", "--python",
}

// npmValues are options of npm and pnpm whose next word is their value.
var npmValues = []string{"-w", "--workspace", "--prefix", "-C", "--dir", "--registry", "--cache", "--loglevel", "--omit", "--include", "--tag", "--userconfig", "--filter", "-F"}

// withoutValues drops the words that are values of options.
func withoutValues(args, options []string) (rest []string) {
	for n := 0; n < len(args); n++ {
		if rest = append(rest, args[n]); slices.Contains(options, args[n]) {
			n++
		}
	}
	return rest
}

func pipNames(args []string) []string {
	var names []string
	for _, a := range plain(withoutValues(args, pipValues)) {
		exact := strings.Contains(a, "==") || strings.Contains(a, " @ ") || strings.HasSuffix(a, ".whl") || strings.HasSuffix(a, ".tar.gz") || strings.HasSuffix(a, ".txt")
		if a != "install" && !exact {
			names = append(names, a)
		}
	}
	return names
}

func checkRequirements(p *project, add func(Finding)) {
	p.commands(func(i *instruction, _ int, c shell.Command) {
		uv := c.Name() == "uv" && len(c.Words) > 1 && c.Words[1] == "pip"
		if !isPip(c) && !uv || flag(c.Words, "--no-index", "--no-deps") || i.stage == nil {
			return
		}
		for n, w := range c.Words {
			name := ""
			switch {
			case (w == "-r" || w == "--requirement") && n+1 < len(c.Words):
				name = c.Words[n+1]
			case strings.HasPrefix(w, "--requirement="):
				name = strings.TrimPrefix(w, "--requirement=")
			case strings.HasPrefix(w, "-r") && len(w) > 2:
				name = w[2:]
			}
			if name == "" || strings.Contains(name, "$") {
				continue
			}
			files, _ := p.brought(i, []string{path.Base(name)})
			if len(files) == 0 {
				continue
			}
			data, err := p.read(files[0], maxManifest)
			if err != nil {
				continue
			}
			loose, hashed := requirements(data)
			switch {
			case hashed && len(loose) > 0:
				add(Finding{Line: p.find(i, name), Level: Error, Message: fmt.Sprintf("%s has hashes for some packages and none for %s", files[0], strings.Join(head(loose, mostNamed), ", ")), Fix: "pip-compile --generate-hashes, or uv pip compile --generate-hashes."})
			case len(loose) > 0:
				add(Finding{Line: p.find(i, name), Message: fmt.Sprintf("%s does not fix what pip installs: %s", files[0], strings.Join(head(loose, mostNamed), ", ")), Fix: "pip-compile --generate-hashes (or uv pip compile) writes one that does; install it with --require-hashes."})
			}
		}
	})
}

// requirements returns the packages of a requirements file without a version or, if any has one, without a
// hash, and whether any has a hash.
func requirements(data []byte) (loose []string, hashed bool) {
	hashed = strings.Contains(string(data), "--hash=")
	text := strings.ReplaceAll(strings.ReplaceAll(string(data), "\\\r\n", " "), "\\\n", " ")
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(strings.TrimSpace(line), " #")
		if line == "" || strings.HasPrefix(line, "#") || strings.HasPrefix(line, "-") || strings.HasPrefix(line, ".") || strings.HasPrefix(line, "/") {
			continue
		}
		name := strings.TrimSpace(strings.FieldsFunc(line, func(r rune) bool { return strings.ContainsRune("=<>!~;[ @", r) })[0])
		exact := strings.Contains(line, "==") && !strings.Contains(line, ".*") || commitHash.MatchString(line)
		if hashed && !strings.Contains(line, "--hash=") || !hashed && !exact {
			loose = append(loose, name)
		}
	}
	return loose, hashed
}
