package trace

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"crypto/md5"  //nolint:gosec // dpkg's
	"crypto/sha1" //nolint:gosec // apk's
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"io"
	gopath "path"
	"slices"
	"strings"
	"time"

	"github.com/kedge-build/kedge/frontend"
	"github.com/kedge-build/kedge/internal/layer"
	"github.com/kedge-build/kedge/store"
)

// maxSource is the size of a file that may be a source.
const maxSource = 256 << 10

// maxInput is how much of a file is searched for a line that the image has, too.
const maxInput = 16 << 20

// evidence is what the image and the build's inputs say about candidates.
type evidence struct {
	byPath map[string][]*candidate // by the path as packages have it
	sums   map[string][]string     // of files that packages own
	listed map[string]bool         // a package has the path
	files  map[*candidate][]string // the sums of its file
	copied map[*candidate]bool     // an input file has its line
	dated  map[*candidate]bool     // an input file has its date
	rpm    bool                    // the image has RPM's database, which is not read
	clock  bool                    // an input file reads the clock, or has what does
}

// weigh decides which candidates are certain, and which are none at all.
func (f *finder) weigh(ctx context.Context, st *store.Store, m store.Manifest, steps []frontend.Step, found []*candidate) error {
	e := &evidence{
		byPath: map[string][]*candidate{}, sums: map[string][]string{}, listed: map[string]bool{},
		files: map[*candidate][]string{}, copied: map[*candidate]bool{}, dated: map[*candidate]bool{},
	}
	var dated []*candidate
	for _, c := range found {
		e.byPath[merged(c.Path)] = append(e.byPath[merged(c.Path)], c)
		if c.Kind == Timestamp {
			dated = append(dated, c)
		}
	}
	base := len(m.Layers) - len(steps)
	for i, l := range m.Layers {
		err := st.ReadLayer(ctx, l, func(h *tar.Header, r io.Reader) error {
			if i >= base && !steps[i-base].Run && len(dated) > 0 {
				return e.input(h, r, dated)
			}
			return e.entry(i, "/"+layer.Clean(h.Name), h, r)
		})
		if err != nil {
			return err
		}
	}
	if f.search.Inputs != nil && len(dated) > 0 {
		if err := f.search.Inputs(ctx, func(path string, content []byte) { e.file(path, content, dated) }); err != nil {
			return err
		}
	}
	for _, c := range found {
		f.judge(e, c)
	}
	return nil
}

// judge decides about one candidate.
func (f *finder) judge(e *evidence, c *candidate) {
	key := merged(c.Path)
	owned := false
	for _, sum := range e.files[c] {
		for _, s := range e.sums[key] {
			owned = owned || s == sum
		}
	}
	switch {
	case owned || c.inName && e.listed[key]:
		c.dropped = true
	case c.Kind == Machine:
	case (e.copied[c] || c.weak && f.given(string(c.line))) && len(c.line) > len(c.Text), c.origin.clock == notAsked && f.given(c.Text):
		c.dropped = true
	case f.given(c.Text) && (!c.weak || len(c.Text) >= len("202611")) && !c.origin.day: // a year is anywhere
		c.Why = "the Dockerfile or a build arg has the date, too"
	case e.copied[c] && c.origin.clock == notAsked,
		e.dated[c] && !c.origin.day && (c.origin.clock == notAsked && !e.clock || isVersion(c.Text)):
		c.Why = "an input of the build has the date, too"
	case e.listed[key] && len(e.sums[key]) == 0 || e.rpm && strings.HasPrefix(c.Path, "/usr/") && !strings.HasPrefix(c.Path, "/usr/local/"):
		c.Why = "a package may have brought the file"
	case downloaded(c.Path):
		c.Why = "a package manager may have brought the file"
	case c.weak && !c.note && !c.inName:
		c.Why = "the number may mean something else"
	case c.weak && c.origin.loads:
		c.Why = "the step downloads, and may have brought the number along"
	case c.origin.clock != notAsked:
		c.Certain = true
	case f.builtOn(f.search.Commit):
		c.Why = "it is the day of the commit, too"
	case f.builtOn(f.search.Base):
		c.Why = "it is the day of a base image, too"
	case c.origin.loads:
		c.Why = "the step downloads, and may have brought the date along"
	case c.note || c.inName, c.binary && e.clock:
		c.Certain = true
	case c.binary:
		c.Why = "the file is binary"
	default:
		c.Why = "the file is a document, or has other dates"
	}
}

// isVersion reports whether a date is written as in the version of a release.
func isVersion(date string) bool { return strings.Trim(date, "0123456789.") == "" }

// given reports whether the build was given a date in its Dockerfile or its args.
func (f *finder) given(date string) bool {
	return slices.ContainsFunc(f.search.Given, func(s string) bool { return strings.Contains(s, date) })
}

// builtOn reports whether a build ran on the day of t.
func (f *finder) builtOn(t time.Time) bool {
	return slices.ContainsFunc(f.search.Builds, func(w Window) bool { return sameDay(t, w.From) || sameDay(t, w.To) })
}

// entry reads what packages say about candidates, and the sums of the candidates' files.
func (e *evidence) entry(index int, path string, h *tar.Header, r io.Reader) error {
	if h.Typeflag != tar.TypeReg {
		return nil
	}
	for _, c := range e.byPath[merged(path)] {
		if c.Layer == index && c.Path == path {
			sums, err := digests(r)
			if err != nil {
				return err
			}
			for _, same := range e.byPath[merged(path)] {
				if same.Layer == index {
					e.files[same] = sums
				}
			}
			return nil
		}
	}
	dir, name := gopath.Split(path)
	switch {
	case dir == "/var/lib/dpkg/info/" && strings.HasSuffix(name, ".list"):
		return lines(r, func(s string) { e.own(s, "") })
	case dir == "/var/lib/dpkg/info/" && strings.HasSuffix(name, ".md5sums"), dir == "/var/lib/dpkg/status.d/" && strings.HasSuffix(name, ".md5sums"):
		return lines(r, func(s string) {
			if sum, path, ok := strings.Cut(s, "  "); ok {
				e.own("/"+strings.TrimPrefix(path, "/"), "md5:"+sum)
			}
		})
	case path == "/var/lib/dpkg/status":
		return lines(r, func(s string) {
			if words := strings.Fields(s); strings.HasPrefix(s, " /") && len(words) >= 2 { // Conffiles
				e.own(words[0], "md5:"+words[1])
			}
		})
	case path == "/lib/apk/db/installed", path == "/usr/lib/apk/db/installed":
		folder, file := "", ""
		return lines(r, func(s string) {
			switch {
			case strings.HasPrefix(s, "F:"):
				folder = "/" + s[2:]
			case strings.HasPrefix(s, "R:"):
				file = gopath.Join(folder, s[2:])
				e.own(file, "")
			case strings.HasPrefix(s, "Z:Q1"):
				if sum, err := base64.StdEncoding.DecodeString(s[4:]); err == nil {
					e.own(file, "sha1:"+hex.EncodeToString(sum))
				}
			}
		})
	case name == "RECORD" && strings.HasSuffix(dir, ".dist-info/"):
		root := gopath.Dir(strings.TrimSuffix(dir, "/"))
		return lines(r, func(s string) {
			fields := strings.Split(s, ",")
			if len(fields) < 3 {
				return
			}
			path := gopath.Join(root, strings.Join(fields[:len(fields)-2], ","))
			if sum, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(fields[len(fields)-2], "sha256=")); err == nil && len(sum) == sha256.Size {
				e.own(path, "sha256:"+hex.EncodeToString(sum))
			}
		})
	case strings.HasPrefix(path, "/var/lib/rpm/"), strings.HasPrefix(path, "/usr/lib/sysimage/rpm/"):
		e.rpm = true
	}
	return nil
}

// own records that a package has a path, with a sum unless that is empty.
func (e *evidence) own(path, sum string) {
	key := merged(path)
	if e.byPath[key] == nil {
		return
	}
	e.listed[key] = true
	if sum != "" {
		e.sums[key] = append(e.sums[key], sum)
	}
}

// merged returns a path as it is if /bin, /lib and /sbin are links into /usr: packages may name either.
func merged(path string) string {
	for _, dir := range []string{"/bin/", "/sbin/", "/lib/", "/lib32/", "/lib64/", "/libx32/"} {
		if strings.HasPrefix(path, dir) {
			return "/usr" + path
		}
	}
	return path
}

func digests(r io.Reader) ([]string, error) {
	m, s, s2 := md5.New(), sha1.New(), sha256.New() //nolint:gosec // as the package managers do
	if _, err := io.Copy(io.MultiWriter(m, s, s2), r); err != nil {
		return nil, err
	}
	return []string{"md5:" + hex.EncodeToString(m.Sum(nil)), "sha1:" + hex.EncodeToString(s.Sum(nil)), "sha256:" + hex.EncodeToString(s2.Sum(nil))}, nil
}

// lines calls fn for each line, without those that are too long for any path.
func lines(r io.Reader, fn func(string)) error {
	b := bufio.NewReaderSize(r, 64<<10)
	for long := false; ; {
		data, more, err := b.ReadLine()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if !more && !long {
			fn(string(data))
		}
		long = more
	}
}

// input looks for candidates in what a COPY or ADD brought.
func (e *evidence) input(h *tar.Header, r io.Reader, dated []*candidate) error {
	if h.Typeflag == tar.TypeSymlink {
		e.look([]byte(h.Linkname), dated)
	}
	content, err := io.ReadAll(io.LimitReader(r, maxInput)) // empty but for a file
	if err != nil {
		return err
	}
	e.file(h.Name, content, dated)
	return nil
}

// file looks for candidates in a file of the build's inputs, and in its name.
func (e *evidence) file(path string, content []byte, dated []*candidate) {
	e.look([]byte(path), dated)
	unpacked(content, func(part []byte) {
		if !e.clock && len(part) <= maxSource && bytes.IndexByte(part, 0) < 0 {
			e.clock = sourceReads.Match(part)
		}
		e.look(part, dated)
	})
}

// look looks for the lines of candidates.
func (e *evidence) look(content []byte, dated []*candidate) {
	for _, c := range dated {
		if !e.copied[c] && bytes.Contains(content, []byte(c.Text)) {
			e.dated[c] = e.dated[c] || !c.weak
			e.copied[c] = bytes.Contains(content, c.line)
		}
	}
}
