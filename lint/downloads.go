package lint

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/kedge-build/kedge/internal/shell"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
)

// fetchers are programs that download a URL.
var fetchers = []string{"curl", "wget", "wget2", "aria2c", "axel", "http", "https", "xh"}

// interpreters run a program from standard input.
var interpreters = []string{"python", "python2", "python3", "perl", "ruby", "node", "php"}

func isFetch(c shell.Command) bool { return slices.Contains(fetchers, c.Name()) }

func runsInput(c shell.Command) bool {
	if shell.IsShell(c.Words[0]) {
		return true
	}
	// An interpreter with a script reads its input as data.
	return slices.Contains(interpreters, c.Name()) && (len(c.Words) == 1 || c.Words[1] == "-")
}

// runsOutput reports whether a shell runs the output of the n-th command.
func (i *instruction) runsOutput(n int) bool {
	c := i.commands[n]
	piped := slices.ContainsFunc(i.commands[n+1:], func(other shell.Command) bool {
		return other.Pipeline == c.Pipeline && runsInput(other)
	})
	return piped || c.Outer >= 0 && (shell.IsShell(i.commands[c.Outer].Words[0]) || slices.Contains([]string{"source", ".", "eval"}, i.commands[c.Outer].Words[0]))
}

func checkPipedShell(p *project, add func(Finding)) {
	p.commands(func(i *instruction, n int, c shell.Command) {
		if !isFetch(c) {
			return
		}
		if i.runsOutput(n) {
			add(Finding{Line: p.at(i, c), Message: fmt.Sprintf("a shell runs what %s downloads, and the server can change that at any time", c.Name())})
		}
	})
}

// checkers verify what was downloaded.
var checkers = []string{
	"sha256sum", "sha512sum", "sha1sum", "sha384sum", "sha224sum", "b2sum", "md5sum", "shasum", "gpg", "gpgv", "gpg2", "cosign", "minisign", "rhash", "cksum",
	"openssl", "sha256", "slsa-verifier", "gh", "signify", "apt-key", "cmp",
}

// urlOf returns the first URL in words that is not of this machine.
func urlOf(words []string) string {
	for _, w := range words {
		if i := strings.Index(w, "://"); i > 0 && !strings.Contains(w, "://localhost") && !strings.Contains(w, "://127.0.0.1") && !strings.HasPrefix(w, "--proxy") {
			return w
		}
	}
	return ""
}

func checkUncheckedDownloads(p *project, add func(Finding)) {
	for _, i := range p.instructions {
		if slices.ContainsFunc(i.commands, func(c shell.Command) bool { return slices.Contains(checkers, c.Name()) }) || strings.Contains(i.text, "checksum") || strings.Contains(i.text, "SHA256") {
			continue
		}
		for n, c := range i.commands {
			url := urlOf(c.Words)
			if !isFetch(c) || url == "" || commitHash.MatchString(url) || movingWord(url) != "" || proof.MatchString(url) || slices.ContainsFunc(c.Words, func(w string) bool {
				return slices.Contains([]string{"-I", "--head", "--spider", "-X", "--data", "-d"}, w)
			}) {
				continue
			}
			keep := c.ToFile || slices.ContainsFunc(c.Words, func(w string) bool {
				return c.Name() != "curl" && c.Name() != "xh" || strings.HasPrefix(w, "-") && !strings.HasPrefix(w, "--") && strings.ContainsAny(w, "oO") || strings.HasPrefix(w, "--output") || w == "--remote-name"
			})
			shelled := false
			for _, other := range i.commands[n+1:] {
				if other.Pipeline == c.Pipeline {
					keep = true
					shelled = shelled || runsInput(other)
				}
			}
			if keep && !shelled && c.Outer < 0 && !i.checksLater(url, c.Words) {
				add(Finding{Line: p.at(i, c), Message: fmt.Sprintf("nothing checks what %s downloads from %s", c.Name(), url)})
			}
		}
	}
}

// proof matches URLs of what others are checked with.
var proof = regexp.MustCompile(`(?i)\.(asc|sig|minisig|sha(1|224|256|384|512)(sum)?s?(\.txt)?|md5(sum)?|pem|crt)$|/(sha\d+sums|[^/]*checksums?)[^/]*$`)

// checksLater reports whether a later RUN of the stage checks a file that a command downloads from a URL.
func (i *instruction) checksLater(url string, words []string) bool {
	if i.stage == nil {
		return false
	}
	names := []string{path.Base(url)}
	for n, w := range words[:len(words)-1] {
		if strings.HasPrefix(w, "-") && strings.ContainsAny(w[len(w)-1:], "oO") || strings.HasPrefix(w, "--output") {
			names = append(names, path.Base(words[n+1]))
		}
	}
	for _, later := range i.stage.instructions[slices.Index(i.stage.instructions, i)+1:] {
		checks := slices.ContainsFunc(later.commands, func(c shell.Command) bool { return slices.Contains(checkers, c.Name()) })
		if checks && slices.ContainsFunc(names, func(name string) bool { return name != "-" && strings.Contains(later.text, name) }) {
			return true
		}
	}
	return false
}

var (
	commitHash = regexp.MustCompile(`\b[0-9a-f]{40}\b`)
	shortHash  = regexp.MustCompile(`^[0-9a-f]{7,39}$`)
	moving     = regexp.MustCompile(`(?:^|/)(?:(?:raw|blob|archive|tarball|zipball|refs/heads)/)?(?:main|master|develop|trunk|HEAD|nightly|latest)(?:/|\.tar|\.zip|$)`)
)

// movingWord returns the word in a URL that says that it is meant to change, or "".
func movingWord(url string) string {
	_, path, _ := strings.Cut(url, "://")
	if commitHash.MatchString(path) {
		return ""
	}
	// A component of a Debian archive is no branch.
	return strings.Trim(moving.FindString(strings.ReplaceAll(path, "/pool/main/", "/pool/")), "/.")
}

func checkMovingURLs(p *project, add func(Finding)) {
	p.commands(func(i *instruction, n int, c shell.Command) {
		url := urlOf(c.Words)
		if word := movingWord(url); isFetch(c) && word != "" && !i.runsOutput(n) {
			add(Finding{Line: p.at(i, c), Message: fmt.Sprintf("%s names whatever is there on the day of the build (%s)", url, word)})
		}
	})
}

func checkGitClone(p *project, add func(Finding)) {
	for _, i := range p.instructions {
		for n, c := range i.commands {
			if c.Name() != "git" || !slices.Contains(c.Words, "clone") && !slices.Contains(c.Words, "pull") {
				continue
			}
			if urlOf(c.Words) == "" && !slices.ContainsFunc(c.Words, func(w string) bool { return strings.Contains(w, "git@") || strings.HasPrefix(w, "$") }) {
				continue
			}
			later := ofClone(append(slices.Clone(i.commands[n:]), i.laterCommands()...))
			if commitHash.MatchString(i.text) || checksOut(later) {
				continue
			}
			f := Finding{Line: p.at(i, c), Message: "git fetches whatever is on the default branch on the day of the build"}
			if ref := checkedOut(later); versionTag.MatchString(ref) {
				f.Level, f.Message = Info, fmt.Sprintf("git fetches the tag %s, which its owner can move", ref)
			} else if ref != "" {
				f.Message = fmt.Sprintf("git fetches whatever is on %s on the day of the build", ref)
			}
			add(f)
		}
	}
}

var versionTag = regexp.MustCompile(`^[A-Za-z/_-]*[0-9]+([._-][0-9]+)+[-._A-Za-z0-9]*$|^(v|version|release|rel|tag)[-_]?[0-9]+$`)

// ofClone returns the commands from a clone on, without those of other clones: a checkout is of the clone in whose
// folder it runs or, if cd does not say, of the last one.
func ofClone(commands []shell.Command) (own []shell.Command) {
	folder := func(words []string) string {
		rest := plain(words)
		if len(rest) == 0 {
			return ""
		}
		return strings.TrimSuffix(path.Base(rest[len(rest)-1]), ".git")
	}
	home, at, others := folder(commands[0].Words), "", false
	for n, c := range commands {
		switch {
		case c.Name() == "cd" || c.Name() == "pushd":
			at = folder(c.Words[1:])
		case c.Name() != "git":
		case n > 0 && slices.Contains(c.Words, "clone"):
			others, at = true, ""
			continue
		case n > 0 && others && at != home && !slices.Contains(c.Words, home):
			continue
		}
		own = append(own, c)
	}
	return own
}

// checkedOut returns the branch or the tag that commands take, or "".
func checkedOut(commands []shell.Command) string {
	for _, c := range commands {
		for n, w := range c.Words {
			value, inline := strings.CutPrefix(w, "--branch=")
			switch {
			case c.Name() != "git":
			case inline:
				return value
			case (w == "-b" || w == "--branch") && slices.Contains(c.Words, "clone") && n+1 < len(c.Words):
				return c.Words[n+1]
			case w == "checkout" || w == "reset" || w == "switch":
				if rest := plain(c.Words[n+1:]); len(rest) > 0 {
					return rest[0]
				}
			}
		}
	}
	return ""
}

// checksOut reports whether a command checks out a commit. One that comes in as an ARG is a choice that is made
// elsewhere.
func checksOut(commands []shell.Command) bool {
	return slices.ContainsFunc(commands, func(c shell.Command) bool {
		text := strings.Join(c.Words[1:], " ")
		return c.Name() == "git" && !slices.Contains(c.Words, "clone") && slices.ContainsFunc([]string{"checkout", "reset", "switch", "fetch"}, func(w string) bool { return slices.Contains(c.Words, w) }) &&
			(strings.Contains(text, "$") || commitHash.MatchString(text) || slices.ContainsFunc(c.Words, shortHash.MatchString))
	})
}

// laterCommands returns the commands of the later RUNs of the stage.
func (i *instruction) laterCommands() (commands []shell.Command) {
	if i.stage == nil {
		return nil
	}
	for _, later := range i.stage.instructions[slices.Index(i.stage.instructions, i)+1:] {
		commands = append(commands, later.commands...)
	}
	return commands
}

// upgrades are subcommands that move all packages to their newest versions.
var upgrades = map[string][]string{
	"apt-get": {"upgrade", "dist-upgrade", "full-upgrade"}, "apt": {"upgrade", "dist-upgrade", "full-upgrade"}, "aptitude": {"safe-upgrade", "full-upgrade", "upgrade"},
	"apk": {"upgrade"}, "dnf": {"upgrade", "update", "distro-sync"}, "microdnf": {"upgrade", "update"}, "yum": {"upgrade", "update"}, "zypper": {"up", "update", "dup", "dist-upgrade"}, "tdnf": {"update", "upgrade"},
}

func checkUpgrade(p *project, add func(Finding)) {
	p.commands(func(i *instruction, _ int, c shell.Command) {
		var plain []string
		for _, w := range c.Words[1:] {
			if !strings.HasPrefix(w, "-") {
				plain = append(plain, w)
			}
		}
		// With names it moves those packages alone.
		if len(plain) == 1 && slices.Contains(upgrades[c.Name()], plain[0]) && !slices.Contains(c.Words, "--security") {
			add(Finding{Line: p.find(i, c.Name(), plain[0]), Message: fmt.Sprintf("%s %s installs whatever is newest on the day of the build", c.Name(), plain[0])})
		}
	})
}

// unsigned are words that switch off the signatures of a package repository.
var unsigned = []string{"trusted=yes", "--allow-unauthenticated", "--force-yes", "--nogpgcheck", "--allow-untrusted", "--no-gpg-checks", "gpgcheck=0", "AllowUnauthenticated=true", "AllowUnauthenticated \"true\"", "AllowInsecureRepositories"}

func checkUnsigned(p *project, add func(Finding)) {
	for _, i := range p.instructions {
		if _, ok := i.cmd.(*instructions.RunCommand); !ok {
			continue
		}
		for _, c := range i.commands {
			for _, word := range unsigned {
				if strings.Contains(strings.Join(c.Words, " "), word) {
					add(Finding{Line: p.find(i, word), Message: fmt.Sprintf("%s lets in packages without a signature", word)})
				}
			}
		}
	}
}
