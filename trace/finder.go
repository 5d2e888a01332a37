package trace

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	gopath "path"
	"regexp"
	"slices"
	"strings"

	"github.com/kedge-build/kedge/frontend"
	"github.com/kedge-build/kedge/internal/layer"
	"github.com/kedge-build/kedge/store"
)

const (
	window   = 1 << 20 // bytes that are searched at once
	overlap  = 1 << 10 // bytes of them that are searched again, with those that follow
	small    = 4 << 10 // a text of this size is a note rather than a document
	maxLine  = 512     // bytes of a line that are compared with the build's inputs
	maxValue = overlap / 2
)

// An origin is what the text of the instructions says about the files of a layer.
type origin struct {
	line        int
	instruction string
	text        string // of all of them
	clock       bool   // an instruction reads the clock
	loads       bool   // an instruction downloads, or reads a repository
}

var (
	readsClock = regexp.MustCompile("(?:^|[\\s;&|`(])(?:/bin/|/usr/bin/)?date(?:$|[\\s;&|`)])|strftime|datetime|\\bdate\\.today|\\bDate\\(|\\bDate\\.now|\\blocaltime\\b|\\bgmtime\\b|\\btime\\.(?:Now|time|now|ctime)\\b|\\bctime\\b|EPOCHSECONDS|printf +-v|%\\(.*\\)T")
	fetches    = regexp.MustCompile(`\b(?:curl|wget|git|apt|apt-get|aptitude|apk|dnf|yum|microdnf|zypper|npm|npx|yarn|pnpm|bun|pip3?|pipx|uv|poetry|conda|mamba|gem|bundle|cargo|go|mvn|gradle|composer|cpan|cpanm|luarocks|dotnet|nuget|svn|hg|rsync|scp|aria2c|fetch|helm)\b|https?://|ftp://`)
)

func newOrigin(step frontend.Step) origin {
	texts := []string{step.Text}
	for _, s := range step.From {
		texts = append(texts, s.Text)
	}
	text := strings.Join(texts, "\n")
	// If a stage made the file, the instruction that reads the clock is more telling than the COPY.
	line, instruction := step.Line, step.Text
	for _, s := range step.From {
		if s.Run && readsClock.MatchString(s.Text) {
			line, instruction = s.Line, s.Text
		}
	}
	return origin{line, instruction, text, readsClock.MatchString(text), fetches.MatchString(text)}
}

// A candidate is a finding that has not been weighed.
type candidate struct {
	Finding
	origin  origin
	line    []byte // with the date
	note    bool   // the file is a small text that has no other date
	binary  bool
	inName  bool
	dropped bool
}

type finder struct {
	search Search
	dates  *dates
	facts  []Fact
	buf    []byte
}

func newFinder(s Search) *finder {
	f := &finder{search: s, dates: newDates(s.Builds, s.Zone, s.Epoch), buf: make([]byte, window)}
	for _, fact := range s.Machine {
		if len(fact.Value) > 0 && len(fact.Value) <= maxValue {
			f.facts = append(f.facts, fact)
		}
	}
	return f
}

// layer searches the files of a layer.
func (f *finder) layer(ctx context.Context, st *store.Store, l store.Layer, o origin) ([]*candidate, error) {
	var found []*candidate
	err := st.ReadLayer(ctx, l, func(h *tar.Header, r io.Reader) error {
		path := "/" + layer.Clean(h.Name)
		if described(path) || len(found) >= maxFindings {
			return nil
		}
		seen := map[string]bool{}
		add := func(c *candidate) {
			key := string(c.Kind)
			if c.Kind == Machine {
				key = c.What
			}
			if !seen[key] && len(found) < maxFindings {
				seen[key] = true
				c.Path, c.origin = path, o
				found = append(found, c)
			}
		}
		base := gopath.Base(path)
		if name, from, to, ok := f.dates.find([]byte(base)); ok && h.Typeflag != tar.TypeLink {
			add(&candidate{Finding: Finding{Kind: Timestamp, What: name + " in its name", Text: base[from:to]}, line: []byte(base[from:to]), inName: true})
		}
		if h.Typeflag == tar.TypeSymlink {
			f.scan([]byte(h.Linkname), true, o, add)
			return nil
		}
		if h.Typeflag != tar.TypeReg || h.Size == 0 {
			return nil
		}
		return f.file(h.Size, r, o, add)
	})
	return found, err
}

// file searches the content of a file, which has size bytes.
func (f *finder) file(size int64, r io.Reader, o origin, add func(*candidate)) error {
	have := 0
	for {
		n, err := io.ReadFull(r, f.buf[have:])
		have += n
		end := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !end {
			return err
		}
		f.scan(f.buf[:have], end && size <= window, o, add)
		if end {
			return nil
		}
		copy(f.buf, f.buf[have-overlap:have])
		have = overlap
	}
}

// scan searches bytes. whole says that they are a whole file.
func (f *finder) scan(buf []byte, whole bool, o origin, add func(*candidate)) {
	if name, from, to, ok := f.dates.find(buf); ok {
		binary := bytes.IndexByte(buf[max(0, from-small):min(len(buf), to+small)], 0) >= 0
		add(&candidate{
			Finding: Finding{Kind: Timestamp, What: name, Text: strings.TrimSpace(string(buf[from:to]))},
			line:    line(buf, from, to), binary: binary,
			note: whole && len(buf) <= small && !binary && !f.dates.otherDays(buf),
		})
	}
	for _, fact := range f.facts {
		if fact.matches(buf, whole, o) {
			add(&candidate{Finding: Finding{Kind: Machine, What: fact.Name}})
		}
	}
}

// line returns the line that buf[from:to] is in, or a part of it.
func line(buf []byte, from, to int) []byte {
	start := bytes.LastIndexByte(buf[:from], '\n') + 1
	end := len(buf)
	if i := bytes.IndexByte(buf[to:], '\n'); i >= 0 {
		end = to + i
	}
	start, end = max(start, from-maxLine/2), min(end, to+maxLine/2)
	return bytes.Clone(bytes.TrimSpace(buf[start:end]))
}

func (f Fact) matches(buf []byte, whole bool, o origin) bool {
	if len(f.Asked) > 0 {
		return whole && string(bytes.TrimSpace(buf)) == f.Value && slices.ContainsFunc(f.Asked, func(w string) bool { return strings.Contains(o.text, w) })
	}
	for start := 0; ; {
		i := bytes.Index(buf[start:], []byte(f.Value))
		if i < 0 {
			return false
		}
		i += start
		if !wordAt(buf, i-1) && !wordAt(buf, i+len(f.Value)) {
			return true
		}
		start = i + len(f.Value)
	}
}

// wordAt reports whether the byte at an index continues a word or a version.
func wordAt(buf []byte, i int) bool {
	if i < 0 || i >= len(buf) {
		return false
	}
	c := buf[i]
	if c == '.' || c == '-' { // the end of a sentence, or the next part of a version
		return i+1 < len(buf) && buf[i+1] > ' '
	}
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// described reports whether a path belongs to the description of packages, which have dates of their own.
func described(path string) bool {
	for _, prefix := range []string{"/var/lib/dpkg/", "/var/lib/apt/", "/var/cache/apt/", "/var/cache/debconf/", "/usr/share/doc/", "/usr/share/man/", "/lib/apk/", "/usr/lib/apk/", "/var/cache/apk/", "/var/lib/rpm/", "/usr/lib/sysimage/", "/var/cache/dnf/", "/var/lib/dnf/"} {
		if strings.HasPrefix(path, prefix) {
			return true
		}
	}
	return false
}

// downloaded reports whether a path is in a folder that package managers fill.
func downloaded(path string) bool {
	for _, part := range []string{"/node_modules/", "/site-packages/", "/dist-packages/", "/gems/", "/pkg/mod/", "/registry/src/", "/.git/", "/vendor/", "/.m2/", "/.gradle/", "/.nuget/", "/.rustup/", "/.cargo/", "/.npm/", "/.cache/"} {
		if strings.Contains(path, part) {
			return true
		}
	}
	return false
}
