package lint

import (
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/distribution/reference"
	"github.com/kedge-build/kedge/lock"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
)

// isImage reports whether a name is an image's, and not a stage's.
func isImage(p *project, name string) bool {
	return name != "" && name != "scratch" && p.stage(name) == nil && !strings.Contains(name, "$") && !strings.Contains(name, "://")
}

// images calls each with the images that the Dockerfile names, and their lines.
func (p *project) images(each func(name string, line int)) {
	visit := func(name string, line int) {
		if isImage(p, name) {
			each(name, line)
		}
	}
	for _, s := range p.stages {
		visit(s.base, s.line)
	}
	for _, i := range p.instructions {
		switch cmd := i.cmd.(type) {
		case *instructions.CopyCommand:
			visit(cmd.From, i.start)
		case *instructions.RunCommand:
			for _, m := range instructions.GetMounts(cmd) {
				visit(m.From, p.find(i, "from="+m.From))
			}
		}
	}
}

func checkLock(p *project, add func(Finding)) {
	if p.Lockfile == "" {
		return
	}
	if p.Lock == nil {
		add(Finding{Message: fmt.Sprintf("there is no %s: a tag or a URL gives whatever it names on the day of the build", path.Base(p.Lockfile)), Fix: fmt.Sprintf("Run kedge lock, and commit %s.", path.Base(p.Lockfile))})
		return
	}
	if p.LockUntracked != "" {
		add(Finding{File: p.Lockfile, Level: Error, Message: map[string]string{
			"untracked": "git does not track the lockfile: another checkout has no pins",
			"ignored":   "git ignores the lockfile: another checkout has no pins",
		}[p.LockUntracked], Fix: fmt.Sprintf("git add -f %s", path.Base(p.Lockfile))})
	}
	behind := p.sources(p.ships)
	p.images(func(name string, line int) {
		named, err := reference.ParseDockerRef(name)
		if err != nil || !behind[p.stageAt(line)] {
			return // the lock has what the target needs
		}
		if _, digested := named.(reference.Digested); digested {
			return
		}
		ref := reference.TagNameOnly(named).String()
		_, registry := p.Lock.Pin(lock.Source{Kind: lock.Image, Ref: ref})
		_, local := p.Lock.Pin(lock.Source{Kind: lock.Local, Ref: ref})
		if !registry && !local {
			add(Finding{Line: line, Level: Error, Message: fmt.Sprintf("the lock has no pin for %s", name), Fix: "kedge lock"})
		}
	})
	for _, i := range p.instructions {
		cmd, ok := i.cmd.(*instructions.AddCommand)
		if !ok || cmd.Checksum != "" || !behind[i.stage] {
			continue
		}
		for _, src := range cmd.SourcePaths {
			if !strings.HasPrefix(src, "http://") && !strings.HasPrefix(src, "https://") || strings.Contains(src, "$") || strings.Contains(src, "@") {
				continue
			}
			pinned := false
			for _, s := range p.Lock.Sources() {
				pinned = pinned || s.Ref == src || s.Kind == lock.Git && strings.HasPrefix(strings.Split(src, "#")[0], strings.Split(s.Ref, "#")[0])
			}
			if !pinned {
				add(Finding{Line: p.find(i, src), Level: Error, Message: fmt.Sprintf("the lock has no pin for %s", src), Fix: "kedge lock"})
			}
		}
	}
}

// endOfLife are the days on which Debian's long-term support and Ubuntu's standard support end, by the words
// in tags. Sources: wiki.debian.org/LTS and ubuntu.com/about/release-cycle.
var endOfLife = []struct {
	image string // "debian" and "ubuntu" have releases as tags; tags of any other image can name them
	words []string
	name  string
	ends  string
}{
	{"debian", []string{"wheezy", "7"}, "Debian 7", "2018-05-31"},
	{"debian", []string{"jessie", "8"}, "Debian 8", "2020-06-30"},
	{"debian", []string{"stretch", "9"}, "Debian 9", "2022-06-30"},
	{"debian", []string{"buster", "10"}, "Debian 10", "2024-06-30"},
	{"debian", []string{"bullseye", "11"}, "Debian 11", "2026-08-31"},
	{"debian", []string{"bookworm", "12"}, "Debian 12", "2028-06-30"},
	{"ubuntu", []string{"trusty", "14.04"}, "Ubuntu 14.04", "2019-04-30"},
	{"ubuntu", []string{"xenial", "16.04"}, "Ubuntu 16.04", "2021-04-30"},
	{"ubuntu", []string{"bionic", "18.04"}, "Ubuntu 18.04", "2023-05-31"},
	{"ubuntu", []string{"focal", "20.04"}, "Ubuntu 20.04", "2025-05-31"},
	{"ubuntu", []string{"jammy", "22.04"}, "Ubuntu 22.04", "2027-06-01"},
	{"ubuntu", []string{"kinetic", "22.10"}, "Ubuntu 22.10", "2023-07-20"},
	{"ubuntu", []string{"lunar", "23.04"}, "Ubuntu 23.04", "2024-01-25"},
	{"ubuntu", []string{"mantic", "23.10"}, "Ubuntu 23.10", "2024-07-11"},
	{"ubuntu", []string{"oracular", "24.10"}, "Ubuntu 24.10", "2025-07-10"},
}

func checkEndOfLife(p *project, add func(Finding)) {
	seen := map[int]bool{}
	p.images(func(name string, line int) {
		named, err := reference.ParseNormalizedNamed(name)
		if err != nil || seen[line] {
			return
		}
		tagged, ok := named.(reference.Tagged)
		if !ok {
			return
		}
		image, tag := path.Base(named.Name()), tagged.Tag()
		for _, r := range endOfLife {
			ends, err := time.Parse(time.DateOnly, r.ends)
			if err != nil || !p.Now.After(ends.AddDate(0, 0, 1)) || !tagNames(image, tag, r.image, r.words) {
				continue
			}
			seen[line] = true
			add(Finding{Line: line, Message: fmt.Sprintf("%s has had no security updates since %s", r.name, r.ends)})
		}
	})
}

// tagNames reports whether a tag names a release: by its number for the distribution's own image, and by its
// code name for any.
func tagNames(image, tag, distribution string, words []string) bool {
	for i, w := range words {
		number := i > 0
		if image == distribution && number && (tag == w || strings.HasPrefix(tag, w+".") || strings.HasPrefix(tag, w+"-")) {
			return true
		}
		if number && !strings.Contains(w, ".") { // "10" in another image's tag can be anything
			continue
		}
		for _, part := range strings.FieldsFunc(tag, func(r rune) bool { return r == '-' || r == '_' }) {
			if part == w || number && (part == distribution+w) {
				return true
			}
		}
	}
	return false
}
