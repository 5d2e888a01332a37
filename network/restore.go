package network

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
)

// A Source has bodies that are shared.
type Source interface {
	// Fetch returns the body with a digest and a size. The error wraps fs.ErrNotExist if it does not have it.
	Fetch(ctx context.Context, dgst digest.Digest, size int64) (io.ReadCloser, error)
}

// DefaultArchive has every version of Debian's packages, by file name.
const DefaultArchive = "https://snapshot.debian.org"

// body returns the body of an entry: from the cache, or from where it is still to be had.
func (p *Proxy) body(ctx context.Context, e Entry, u *url.URL) (*os.File, error) {
	f, err := p.o.Cache.Open(e.Digest)
	var damaged *DamagedError
	if err == nil || !errors.Is(err, fs.ErrNotExist) && !errors.As(err, &damaged) {
		return f, err
	}
	if err := p.restore(ctx, e, u); err != nil {
		return nil, err
	}
	return p.o.Cache.Open(e.Digest)
}

// maxRestores is how many bodies are fetched at the same time.
const maxRestores = 8

// Restore reads the bodies of the record, fetches those that the cache lacks or that are damaged, and returns
// their entries. The error is a *MissingError that lists all that are not to be had.
func (p *Proxy) Restore(ctx context.Context) (restored []Entry, err error) {
	missing := &MissingError{}
	var mu sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(maxRestores)
	for _, e := range p.o.Record.Bodies() {
		group.Go(func() error {
			f, err := p.o.Cache.Open(e.Digest)
			if err == nil {
				return f.Close()
			}
			err = p.restore(ctx, e, nil)
			var none *MissingError
			mu.Lock()
			defer mu.Unlock()
			switch {
			case errors.As(err, &none):
				missing.Add(none)
			case err != nil:
				return err
			default:
				restored = append(restored, e)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return restored, err
	}
	if len(missing.Entries) > 0 {
		slices.SortFunc(missing.Entries, func(a, b Entry) int { return compareEntries(&a, &b) })
		return restored, missing
	}
	return restored, nil
}

// restore fetches a body that the cache lacks: from where it is shared, from its origin, or from an archive.
// It keeps only bytes with the locked digest. The error is a *MissingError if it finds none.
func (p *Proxy) restore(ctx context.Context, e Entry, u *url.URL) error {
	missing := &MissingError{Entries: []Entry{e}}
	if p.o.Offline {
		return missing
	}
	var why []string
	if p.o.Repo != nil {
		body, err := p.o.Repo.Fetch(ctx, e.Digest, e.Size)
		if err == nil {
			err = p.keep(e, body)
		}
		if err == nil {
			return nil
		}
		why = append(why, "the repository: "+reason(err))
	}
	if u == nil {
		var err error
		if u, err = url.Parse(e.URL); err != nil {
			return err
		}
	}
	header := http.Header{}
	for name, value := range e.Vary {
		header.Set(name, value)
	}
	err := p.refetch(ctx, e, u, header)
	if err == nil {
		return nil
	}
	why = append(why, "its server: "+reason(err))
	for _, from := range p.archived(ctx, e) {
		if err = p.refetch(ctx, e, from, header); err == nil {
			return nil
		}
	}
	if write := (*writeError)(nil); errors.As(err, &write) || ctx.Err() != nil {
		return err
	}
	missing.Why = map[digest.Digest]string{e.Digest: strings.Join(why, "; ")}
	return missing
}

// reason returns the text of an error about a body, on a line and without the URL, which may have credentials.
func reason(err error) string {
	var damaged *DamagedError
	var about *url.Error
	switch {
	case errors.As(err, &damaged):
		return "other bytes"
	case errors.Is(err, fs.ErrNotExist):
		return "has none"
	case errors.As(err, &about):
		err = about.Err
	}
	return strings.ReplaceAll(err.Error(), "\n", " ")
}

// refetch fetches the body of an entry, following redirects.
func (p *Proxy) refetch(ctx context.Context, e Entry, from *url.URL, header http.Header) error {
	client := &http.Client{Transport: p.client}
	if e.Status != http.StatusOK {
		client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	}
	resp, err := client.Do(newRequest(ctx, http.MethodGet, from, header))
	if err != nil {
		return err
	}
	if resp.StatusCode != e.Status {
		resp.Body.Close()
		return errors.New(resp.Status)
	}
	return p.keep(e, resp.Body)
}

// keep puts the body of an entry into the cache. It reads one byte more than the locked size at most.
func (p *Proxy) keep(e Entry, body io.ReadCloser) error {
	defer body.Close()
	return p.o.Cache.Put(e.Digest, io.LimitReader(body, e.Size+1))
}

// debianPackage matches the path of a package in a Debian archive.
var debianPackage = regexp.MustCompile(`/pool/.*/([a-z0-9][a-z0-9+.-]*)_([^/_]+)_([a-z0-9-]+)\.deb$`)

// archived returns the URLs in the archive of Debian's packages at which a package may be. The archive's
// interface is https://salsa.debian.org/snapshot-team/snapshot/raw/master/API.
func (p *Proxy) archived(ctx context.Context, e Entry) []*url.URL {
	m := debianPackage.FindStringSubmatch(e.URL)
	if m == nil {
		return nil
	}
	name, version, arch := m[1], m[2], m[3]
	if plain, err := url.PathUnescape(version); err == nil {
		version = plain
	}
	base := p.o.Archive
	if base == "" {
		base = DefaultArchive
	}
	u, err := url.Parse(strings.TrimSuffix(base, "/"))
	if err != nil {
		return nil
	}
	var versions struct {
		Result []struct {
			Version string `json:"binary_version"`
		}
	}
	if p.ask(ctx, u.JoinPath("mr", "binary", name, "/"), &versions) != nil {
		return nil
	}
	var found []*url.URL
	for _, v := range versions.Result {
		_, plain, epoch := strings.Cut(v.Version, ":")
		if !epoch {
			plain = v.Version
		}
		if plain != version { // the name of a file leaves the epoch out
			continue
		}
		var files struct {
			Result []struct{ Hash, Architecture string }
		}
		if p.ask(ctx, u.JoinPath("mr", "binary", name, v.Version, "binfiles"), &files) != nil {
			continue
		}
		for _, f := range files.Result {
			if f.Architecture == arch && len(found) < maxArchived {
				found = append(found, u.JoinPath("file", f.Hash))
			}
		}
	}
	return found
}

// maxArchived bounds the files of an archive that are tried for one package.
const maxArchived = 8

// ask reads a JSON document of the archive.
func (p *Proxy) ask(ctx context.Context, u *url.URL, v any) error {
	resp, err := (&http.Client{Transport: p.client}).Do(newRequest(ctx, http.MethodGet, u, nil))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", u, resp.Status)
	}
	return json.NewDecoder(io.LimitReader(resp.Body, 16<<20)).Decode(v)
}
