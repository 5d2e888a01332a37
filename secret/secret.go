// Package secret looks for the values of secrets in images.
package secret

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/platforms"
	"github.com/kedge-build/kedge/internal/layer"
	"github.com/kedge-build/kedge/internal/strictjson"
	"github.com/kedge-build/kedge/store"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// MinSecret is the least length of a secret that Check looks for, in bytes without surrounding space.
// Shorter values occur everywhere.
const MinSecret = 6

// Short reports whether Check skips a secret because it is too short.
func Short(secret []byte) bool { return len(bytes.TrimSpace(secret)) < MinSecret }

// A Leak is a place in an image that contains the value of a secret. It does not hold the value.
type Leak struct {
	Secret   string // its id
	Form     string // plain, base64, url or json
	Platform ocispec.Platform
	Layer    int    // counted from the lowest; -1 for a Document
	Document string // image config or attestation; empty for a layer
	// Path is the path of the file in the layer, or of the value in the document, such as config.Env[2]. A
	// secret in the path itself is replaced by "***".
	Path string
}

// A LeakError says that an image contains values of secrets. Such an image is not listed in the Store.
type LeakError struct{ Leaks []Leak }

func (e *LeakError) Error() string {
	l := e.Leaks[0]
	where := l.Document
	if where == "" {
		where = fmt.Sprintf("layer %d", l.Layer)
	}
	return fmt.Sprintf("the value of secret %q is in the %s for %s: %s", l.Secret, where, platforms.Format(l.Platform), l.Path)
}

// A needle is one form of a secret's value.
type needle struct {
	secret, form string
	value        []byte
}

// newNeedles returns the forms of each secret to look for, the plainest first.
func newNeedles(secrets map[string][]byte) []needle {
	var all []needle
	for _, id := range slices.Sorted(maps.Keys(secrets)) {
		// A file with a secret usually ends in a line end, which programs strip from the secret.
		value := bytes.TrimSpace(secrets[id])
		if Short(value) {
			continue
		}
		seen := map[string]bool{}
		add := func(form, v string) {
			if !seen[v] {
				seen[v] = true
				all = append(all, needle{id, form, []byte(v)})
			}
		}
		add("plain", string(value))
		add("url", url.QueryEscape(string(value)))
		add("url", url.PathEscape(string(value)))
		if quoted, err := json.Marshal(string(value)); err == nil {
			add("json", string(quoted[1:len(quoted)-1]))
		}
		for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			for offset := range 3 {
				add("base64", base64Within(enc, value, offset))
			}
		}
	}
	return all
}

// base64Within returns the part of the base64 of a text that depends on value alone, if the number of
// bytes before value in the text is offset plus a multiple of three.
func base64Within(enc *base64.Encoding, value []byte, offset int) string {
	text := append(make([]byte, offset), value...)
	encoded := enc.EncodeToString(text)
	return encoded[(offset*8+5)/6 : len(text)*8/6]
}

// window is the number of bytes that a searcher reads at once.
const window = 1 << 20

// A searcher looks for needles. It reuses its buffers.
type searcher struct {
	needles []needle
	longest int
	buf     []byte
	joined  []byte // buf without line ends, which break base64
}

func newSearcher(needles []needle) *searcher {
	s := &searcher{needles: needles}
	for _, n := range needles {
		s.longest = max(s.longest, len(n.value))
	}
	s.buf = make([]byte, 0, max(window, 4*s.longest))
	s.joined = make([]byte, 0, cap(s.buf)+s.longest)
	return s
}

// find returns the needles in r, at most one for each secret.
func (s *searcher) find(r io.Reader) ([]needle, error) {
	var found []needle
	has := map[string]bool{}
	buf, joined := s.buf[:0], s.joined[:0]
	for {
		n, err := io.ReadFull(r, buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		for line := range bytes.SplitSeq(buf[len(buf)-n:], []byte("\n")) {
			joined = append(joined, bytes.TrimSuffix(line, []byte("\r"))...)
		}
		for _, needle := range s.needles {
			in := buf
			if needle.form == "base64" {
				in = joined
			}
			if !has[needle.secret] && bytes.Contains(in, needle.value) {
				has[needle.secret] = true
				found = append(found, needle)
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return found, nil
		}
		if err != nil {
			return nil, err
		}
		// The end of buf may be the start of a needle, so search it again with the bytes that follow.
		buf, joined = s.tail(buf), s.tail(joined)
	}
}

// tail moves the end of buf to its beginning.
func (s *searcher) tail(buf []byte) []byte {
	return append(buf[:0], buf[max(0, len(buf)-(s.longest-1)):]...)
}

func (s *searcher) inText(text string) []needle {
	found, _ := s.find(strings.NewReader(text)) // cannot fail
	return found
}

// hidden returns text without the secrets.
func hidden(text string, needles []needle) string {
	for _, n := range needles {
		text = strings.ReplaceAll(text, string(n.value), "***")
	}
	if len(newSearcher(needles).inText(text)) > 0 { // a secret broken into lines
		return "***"
	}
	return text
}

// A Base says how much of an image, from the lowest layer and the first history entry, belongs to its base
// image. Check skips it.
type Base struct{ Layers, History int }

// maxLayers bounds the layers that Check reads at the same time.
const maxLayers = 4

// Check looks for secrets, by id, in the layers, configs and attestations of an image, except for its base
// images: there is one Base for each manifest. It skips secrets that are Short. If it finds one, the error
// is a *LeakError.
func Check(ctx context.Context, st *store.Store, img store.Image, bases []Base, secrets map[string][]byte) error {
	needles := newNeedles(secrets)
	if len(needles) == 0 {
		return nil
	}
	var mu sync.Mutex
	var leaks []Leak
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(min(runtime.GOMAXPROCS(0), maxLayers))
	search := func(in Leak, look func(context.Context, *searcher, func(string, []needle)) error) {
		group.Go(func() error {
			return look(gctx, newSearcher(needles), func(path string, found []needle) {
				mu.Lock()
				defer mu.Unlock()
				for _, n := range found {
					in.Secret, in.Form, in.Path = n.secret, n.form, hidden(path, needles)
					leaks = append(leaks, in)
				}
			})
		})
	}
	for i, m := range img.Manifests {
		for j := bases[i].Layers; j < len(m.Layers); j++ {
			search(Leak{Platform: m.Platform, Layer: j}, func(ctx context.Context, s *searcher, found func(string, []needle)) error {
				return searchLayer(ctx, st, m.Layers[j], s, found)
			})
		}
		search(Leak{Platform: m.Platform, Layer: -1, Document: "image config"}, func(ctx context.Context, s *searcher, found func(string, []needle)) error {
			return searchDocument(ctx, st, m.Config, bases[i].History, s, found)
		})
		statements, err := st.Statements(ctx, img.Attested, m)
		if err != nil {
			return errors.Join(err, group.Wait())
		}
		for _, d := range statements {
			search(Leak{Platform: m.Platform, Layer: -1, Document: "attestation"}, func(ctx context.Context, s *searcher, found func(string, []needle)) error {
				return searchDocument(ctx, st, d.Digest, 0, s, found)
			})
		}
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("looking for secrets in the image: %w", err)
	}
	if len(leaks) == 0 {
		return nil
	}
	slices.SortFunc(leaks, func(a, b Leak) int {
		if c := strings.Compare(platforms.FormatAll(a.Platform), platforms.FormatAll(b.Platform)); c != 0 {
			return c
		}
		if a.Layer != b.Layer {
			return a.Layer - b.Layer
		}
		return strings.Compare(a.Document+a.Path+"\x00"+a.Secret, b.Document+b.Path+"\x00"+b.Secret)
	})
	return &LeakError{leaks}
}

func searchLayer(ctx context.Context, st *store.Store, l store.Layer, s *searcher, found func(string, []needle)) error {
	return st.ReadLayer(ctx, l, func(h *tar.Header, r io.Reader) error {
		name := layer.Clean(h.Name)
		about := h.Name + "\x00" + h.Linkname
		for k, v := range layer.Xattrs(h) {
			about += "\x00" + k + "\x00" + v
		}
		leaked := s.inText(about)
		inFile, err := s.find(r)
		for _, n := range inFile {
			if !slices.ContainsFunc(leaked, func(o needle) bool { return o.secret == n.secret }) {
				leaked = append(leaked, n)
			}
		}
		if len(leaked) > 0 {
			found("/"+name, leaked)
		}
		return err
	})
}

// searchDocument searches an attestation, or a config without the history of the base image.
func searchDocument(ctx context.Context, st *store.Store, of digest.Digest, baseHistory int, s *searcher, found func(string, []needle)) error {
	info, err := st.Info(ctx, of)
	if err != nil {
		return err
	}
	data, err := store.ReadBlob(ctx, st, ocispec.Descriptor{Digest: of, Size: info.Size}, store.MaxStatement)
	if err != nil {
		return err
	}
	doc, err := strictjson.Decode(data)
	if err != nil {
		return err
	}
	var walk func(path string, v any)
	walk = func(path string, v any) {
		switch v := v.(type) {
		case string:
			if leaked := s.inText(v); len(leaked) > 0 {
				found(path, leaked)
			}
		case []any:
			for i, e := range v {
				if path != "history" || i >= baseHistory {
					walk(fmt.Sprintf("%s[%d]", path, i), e)
				}
			}
		case map[string]any:
			for _, k := range slices.Sorted(maps.Keys(v)) {
				at := strings.TrimPrefix(path+"."+k, ".")
				if leaked := s.inText(k); len(leaked) > 0 {
					found(at, leaked)
				}
				walk(at, v[k])
			}
		}
	}
	walk("", doc)
	return nil
}
