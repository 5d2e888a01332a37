package frontend

import (
	"path"
	"slices"
	"strings"

	"github.com/kedge-build/kedge/internal/shell"
	"mvdan.cc/sh/v3/syntax"
)

// maxCommand bounds the bytes of a command that Downloads parses, and maxNested the shells in shells.
const (
	maxCommand = 1 << 20
	maxNested  = 8
)

// Downloads returns the programs in a command that usually download, each with its subcommand, in order and once.
// It knows programs by their names: it neither knows what a script of the context does, nor whether a download
// happens. args is the command of a RUN, with the shell if there is one.
func Downloads(args []string) []string {
	d := &downloader{}
	d.command(args, 0)
	return d.found
}

type downloader struct{ found []string }

func (d *downloader) add(name string) {
	if !slices.Contains(d.found, name) {
		d.found = append(d.found, name)
	}
}

// script reads a shell script. What is no POSIX shell or bash is read by its lines and words.
func (d *downloader) script(text string, depth int) {
	if depth > maxNested || len(text) > maxCommand {
		return
	}
	if line, _, _ := strings.Cut(text, "\n"); strings.HasPrefix(line, "#!") {
		words := strings.Fields(line[2:])
		if i := slices.IndexFunc(words, interprets); i >= 0 {
			d.inline(path.Base(words[i]), text)
			return
		}
	}
	file, err := syntax.NewParser(syntax.Variant(syntax.LangBash)).Parse(strings.NewReader(text), "")
	if err != nil {
		for line := range strings.Lines(text) {
			for part := range strings.FieldsFuncSeq(line, func(r rune) bool { return strings.ContainsRune(";&|(){}", r) }) {
				d.command(strings.Fields(part), depth+1)
			}
		}
		return
	}
	syntax.Walk(file, func(n syntax.Node) bool {
		switch n := n.(type) {
		case *syntax.CallExpr:
			var words []string
			for _, a := range n.Assigns {
				if a.Name != nil && a.Value != nil {
					words = append(words, a.Name.Value+"="+literal(a.Value))
				}
			}
			for _, w := range n.Args {
				words = append(words, literal(w))
			}
			d.command(words, depth+1)
		case *syntax.Stmt:
			for _, r := range n.Redirs {
				if r.Word != nil && strings.HasPrefix(literal(r.Word), "/dev/tcp/") {
					d.add("/dev/tcp")
				}
			}
			call, ok := n.Cmd.(*syntax.CallExpr)
			if !ok || len(call.Args) == 0 {
				break
			}
			name := literal(call.Args[0])
			for _, r := range n.Redirs { // an interpreter may read its script from a here-document
				switch {
				case r.Hdoc == nil:
				case shell.IsShell(name):
					d.script(literal(r.Hdoc), depth+1)
				case interprets(name):
					d.inline(path.Base(name), literal(r.Hdoc))
				}
			}
		}
		return true
	})
}

// literal returns a word without its quotes. A value that is known only when the command runs is left out.
func literal(w *syntax.Word) string {
	var b strings.Builder
	var parts func([]syntax.WordPart)
	parts = func(list []syntax.WordPart) {
		for _, p := range list {
			switch p := p.(type) {
			case *syntax.Lit:
				b.WriteString(strings.ReplaceAll(p.Value, "\\\n", ""))
			case *syntax.SglQuoted:
				b.WriteString(p.Value)
			case *syntax.DblQuoted:
				parts(p.Parts)
			}
		}
	}
	parts(w.Parts)
	return b.String()
}

// interprets reports whether a program runs scripts that are no shell's.
func interprets(word string) bool {
	name := path.Base(word)
	return versioned(name, "python") || slices.Contains([]string{"node", "perl", "ruby", "php", "deno", "bun", "lua", "Rscript", "pwsh"}, name)
}

// inline adds an interpreter whose script names a URL.
func (d *downloader) inline(name, script string) {
	if mentions([]string{script}, "http://", "https://", "ftp://") {
		d.add(name)
	}
}

// wrappers run the command that follows their options.
var wrappers = []string{
	"sudo", "doas", "env", "time", "nice", "ionice", "nohup", "exec", "command", "builtin", "xargs", "timeout", "chroot", "gosu", "su-exec", "setarch",
	"stdbuf", "eatmydata", "parallel", "retry", "corepack", "if", "then", "else", "do", "while", "until", "!", "fakeroot",
}

// speakers only print or keep the URLs that they are given.
var speakers = []string{
	"echo", "printf", "sed", "awk", "grep", "egrep", "test", "[", "export", "set", "git", "cat", "tee", "true", "false", ":", "sort",
	"npm", "yarn", "pnpm", "pip", "pip3", "go", "composer", "gem", "bundle", "label", "useradd", "adduser", "debconf-set-selections",
	"local", "declare", "readonly", "alias", "read", "expr", "tr", "cut", "find", "crudini", "augtool", "openssl", "ls", "rm", "mkdir", "cd",
}

// downloaders are the programs that download, with the subcommands that do; "" stands for a call without one, and
// none for every call.
var downloaders = map[string][]string{
	"apt-get": {"update", "install", "reinstall", "upgrade", "dist-upgrade", "full-upgrade", "build-dep", "source", "download", "satisfy"},
	"apk":     {"add", "update", "upgrade", "fetch"},
	"dnf":     {"install", "reinstall", "update", "upgrade", "makecache", "builddep", "groupinstall", "group", "module", "download", "swap", "distro-sync", "copr"},
	"zypper":  {"install", "in", "update", "up", "refresh", "ref", "dup", "dist-upgrade", "source-install", "si", "patch"},
	"pacman":  nil, "emerge": nil, "xbps-install": nil, "swupd": {"bundle-add", "update"}, "debootstrap": nil, "mmdebstrap": nil, "rpm": {"-i", "-U", "-F"},
	"curl": nil, "wget": nil, "wget2": nil, "aria2c": nil, "axel": nil, "http": nil, "https": nil, "xh": nil, "ftp": nil, "lftp": nil, "ncftpget": nil,
	"nc": nil, "ncat": nil, "netcat": nil, "socat": nil, "telnet": nil, "dig": nil, "nslookup": nil, "ssh-keyscan": nil, "openssl": {"s_client", "ocsp"}, "apt-key": {"adv"},
	"gpg": {"--recv-keys", "--recv-key", "--receive-keys", "--fetch-keys", "--refresh-keys", "--search-keys", "--locate-keys"},
	"scp": nil, "sftp": nil, "rsync": nil, "rclone": nil, "gsutil": nil, "aws": {"s3", "s3api", "codeartifact"}, "gh": nil, "add-apt-repository": nil,
	"pip":    {"install", "download", "wheel", "sync"},
	"pipx":   {"install", "run", "inject", "upgrade"},
	"uv":     {"sync", "pip", "add", "run", "tool", "lock", "python", "build"},
	"uvx":    nil,
	"poetry": {"install", "add", "update", "lock", "sync", "self"}, "pipenv": {"install", "sync", "update", "lock"}, "pdm": {"install", "sync", "add", "update", "lock"},
	"rye": {"sync", "add", "lock", "fetch"}, "hatch": {"env", "build", "run"}, "conda": {"install", "create", "update", "env"}, "easy_install": nil, "pixi": {"install", "add", "run"},
	"npm":  {"install", "i", "ci", "add", "update", "upgrade", "install-ci-test", "install-test", "it", "cit", "clean-install", "exec", "x", "init", "create", "audit", "rebuild"},
	"yarn": {"", "install", "add", "up", "upgrade", "dlx", "global", "create", "import", "set", "workspaces"},
	"pnpm": {"install", "i", "ci", "add", "update", "up", "fetch", "dlx", "create", "deploy"}, "bun": {"install", "i", "add", "update", "x", "create", "ci"},
	"npx": nil, "bunx": nil, "pnpx": nil, "deno": {"install", "cache", "run", "compile", "add", "task"}, "corepack": {"prepare", "install", "use", "up"},
	"nvm": {"install"}, "n": nil, "fnm": {"install"}, "volta": {"install"}, "bower": {"install", "update"}, "lerna": {"bootstrap"},
	"go":    {"get", "install", "mod", "build", "run", "test", "generate", "vet", "work", "list", "tool"},
	"cargo": {"build", "b", "install", "fetch", "update", "test", "t", "run", "r", "check", "c", "clippy", "doc", "add", "vendor", "binstall", "chef", "generate-lockfile", "rustc", "bench", "zigbuild"},
	"cross": {"build", "test", "run"}, "rustup": {"install", "toolchain", "component", "target", "update", "default"}, "rustup-init": nil, "wasm-pack": {"build"},
	"gem": {"install", "update", "fetch", "i"}, "bundle": {"", "install", "update", "package", "cache", "lock", "add"},
	"composer": {"install", "i", "update", "u", "require", "create-project", "global", "self-update", "selfupdate", "reinstall"}, "pecl": {"install", "download", "upgrade", "update-channels", "channel-update"}, "pear": {"install", "upgrade", "download"},
	"install-php-extensions": nil, "phive": {"install"},
	"git": {"clone", "fetch", "pull", "submodule", "ls-remote", "lfs"}, "svn": {"checkout", "co", "export", "update", "up"}, "hg": {"clone", "pull"}, "bzr": {"branch", "checkout"}, "repo": {"init", "sync"},
	"mvn": nil, "gradle": nil, "ant": nil, "sbt": nil, "lein": nil, "clojure": nil, "clj": nil, "mill": nil, "bazel": {"build", "run", "test", "fetch", "sync"}, "bazelisk": nil, "cs": {"install", "fetch", "launch", "setup"}, "coursier": {"install", "fetch", "launch", "setup"}, "sdk": {"install"},
	"dotnet": {"restore", "build", "publish", "run", "test", "add", "tool", "workload", "pack", "new"}, "nuget": {"install", "restore", "update"}, "msbuild": nil, "paket": {"install", "restore"},
	"cpan": nil, "cpanm": nil, "cpm": {"install"}, "carton": {"install"}, "luarocks": {"install", "make", "build"}, "opam": {"install", "init", "update", "upgrade", "switch"},
	"stack": {"build", "install", "setup", "update", "test"}, "cabal": {"update", "install", "build", "v2-build", "v2-install", "fetch", "new-build"}, "ghcup": {"install"},
	"mix": {"deps.get", "deps.update", "local.hex", "local.rebar", "archive.install", "do"}, "rebar3": nil, "install2.r": nil, "installGithub.r": nil, "install.r": nil,
	"conan": {"install", "create"}, "vcpkg": {"install"}, "swift": {"build", "run", "test", "package"}, "pod": {"install", "update"}, "carthage": {"bootstrap", "update"}, "dart": {"pub", "run"}, "flutter": {"pub", "build", "precache", "doctor"}, "shards": {"install", "build", "update"}, "nimble": {"install", "build", "refresh"}, "zig": {"fetch", "build"},
	"brew": {"install", "update", "upgrade", "tap", "bundle"}, "nix": nil, "nix-env": nil, "nix-build": nil, "nix-shell": nil, "nix-channel": nil, "guix": nil, "snap": {"install"}, "flatpak": {"install", "update"},
	"asdf": {"install", "plugin", "plugin-add"}, "mise": {"install", "use", "exec", "run"}, "helm": {"repo", "pull", "dependency", "plugin", "install"}, "terraform": {"init", "get"}, "tofu": {"init"}, "ansible-galaxy": {"install", "collection", "role"}, "ansible-pull": nil,
	"skopeo": {"copy", "sync", "inspect"}, "crane": {"pull", "export", "copy"}, "oras": {"pull"}, "docker": {"pull", "build"}, "podman": {"pull", "build"}, "buildah": {"pull", "bud", "build", "from"},
	"freshclam": nil, "update-ca-trust": {}, "playwright": {"install", "install-deps"}, "puppeteer": {"browsers"}, "huggingface-cli": {"download"}, "hf": {"download"}, "spacy": {"download"}, "sdkmanager": nil, "tlmgr": {"install", "update"}, "ollama": {"pull", "run"},
}

// synonyms are other names of downloaders.
var synonyms = map[string]string{
	"apt": "apt-get", "aptitude": "apt-get", "apt-fast": "apt-get", "yum": "dnf", "dnf5": "dnf", "microdnf": "dnf", "tdnf": "dnf", "mamba": "conda", "micromamba": "conda",
	"mvnw": "mvn", "gpg2": "gpg", "gradlew": "gradle", "bundler": "bundle", "composer.phar": "composer", "yarnpkg": "yarn", "tlmgr.pl": "tlmgr",
}

// command looks at one command.
func (d *downloader) command(words []string, depth int) {
	vendored := false // go has its modules
	for depth <= maxNested && len(words) > 0 {
		if name, value, ok := strings.Cut(words[0], "="); ok && !strings.ContainsAny(name, "/ ") { // as after env
			vendored = vendored || words[0] == "GOPROXY=off" || name == "GOFLAGS" && strings.Contains(value, "-mod=vendor")
			words = words[1:]
			continue
		}
		name := path.Base(words[0])
		rest := words[1:]
		switch {
		case shell.IsShell(name):
			if i := slices.IndexFunc(rest, shell.IsScriptOption); i >= 0 && i+1 < len(rest) {
				d.script(rest[i+1], depth+1)
				return
			}
		case name == "command" && len(rest) > 0 && strings.ContainsAny(rest[0], "vV") && strings.HasPrefix(rest[0], "-"):
			return // it only looks for a program
		case name == "eval":
			d.script(strings.Join(rest, " "), depth+1)
			return
		case versioned(name, "python") || versioned(name, "pypy"):
			if i := slices.Index(rest, "-m"); i >= 0 && i+1 < len(rest) {
				words = rest[i+1:]
				depth++
				continue
			}
		case name == "php" || name == "ruby" || name == "node" || name == "perl" || name == "java":
			// As in: php composer.phar install, ruby -S gem install.
			if i := slices.IndexFunc(rest, func(w string) bool { return !strings.HasPrefix(w, "-") }); i >= 0 && known(path.Base(rest[i])) != "" {
				words = rest[i:]
				depth++
				continue
			}
		}
		if vendored && versioned(name, "go") {
			return
		}
		if i := slices.IndexFunc(rest, func(w string) bool { return w == "-exec" || w == "-execdir" }); name == "find" && i >= 0 {
			words = rest[i+1:]
			depth++
			continue
		}
		if program := known(name); program != "" && d.program(name, program, rest) {
			return
		}
		if slices.Contains(wrappers, name) {
			if i := slices.IndexFunc(rest, func(w string) bool { return known(path.Base(w)) != "" || shell.IsShell(w) }); i >= 0 {
				words = rest[i:]
				depth++
				continue
			}
		}
		if (name == "R" || name == "Rscript" || name == "r") && mentions(rest, "install", "BiocManager", "renv::") ||
			name == "julia" && mentions(rest, "Pkg.") || name == "mongosh" && mentions(rest, "://") ||
			(name == "pwsh" || name == "powershell") && mentions(rest, "Invoke-WebRequest", "Invoke-RestMethod", "iwr ", "irm ", "Install-Module") {
			d.add(name)
			return
		}
		if !slices.Contains(speakers, name) && mentions(rest, "http://", "https://", "ftp://", "git://", "git@", "s3://") {
			d.add(name)
		}
		return
	}
}

func mentions(words []string, texts ...string) bool {
	return slices.ContainsFunc(words, func(w string) bool {
		return slices.ContainsFunc(texts, func(t string) bool { return strings.Contains(w, t) })
	})
}

// versioned reports whether name is program, alone or with a version, as pip3.11.
func versioned(name, program string) bool {
	version, ok := strings.CutPrefix(name, program)
	return ok && strings.Trim(version, "0123456789.-") == ""
}

// known returns the key of downloaders that name stands for, or "".
func known(name string) string {
	if other, ok := synonyms[name]; ok {
		return other
	}
	if _, ok := downloaders[name]; ok {
		return name
	}
	for _, program := range []string{"pip", "npm", "go", "gem", "composer", "bundle"} {
		if versioned(name, program) {
			return program
		}
	}
	return ""
}

// offline are options with which a program does not download.
var offline = []string{"--offline", "--no-network", "--no-download", "--no-index", "--no-restore", "-mod=vendor", "--version", "--help", "-h", "-offline", "--simulate", "--dry-run"}

// program adds a call of a known program, and reports whether it downloads.
func (d *downloader) program(name, program string, args []string) bool {
	if slices.ContainsFunc(args, func(a string) bool { return slices.Contains(offline, a) }) {
		return true
	}
	if program == "mvn" && slices.Contains(args, "-o") {
		return true
	}
	subcommands := downloaders[program]
	if subcommands == nil {
		d.add(name)
		return true
	}
	plain := slices.DeleteFunc(slices.Clone(args), func(a string) bool { return strings.HasPrefix(a, "-") || a == "" })
	if len(plain) == 0 && slices.Contains(subcommands, "") {
		d.add(name)
		return true
	}
	// An option before the subcommand may have a value: the first word that is a subcommand counts.
	if i := slices.IndexFunc(args, func(a string) bool { return a != "" && slices.Contains(subcommands, a) }); i >= 0 {
		d.add(name + " " + args[i])
		return true
	}
	if program == "rpm" && mentions(args, "://") {
		d.add(name)
	}
	return program != "corepack"
}
