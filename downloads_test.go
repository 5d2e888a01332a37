package kedge

import (
	"errors"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/kedge-build/kedge/builder"
	"github.com/kedge-build/kedge/lock"
	"github.com/kedge-build/kedge/network"
)

func recordOf(t *testing.T, status int, urls ...string) *network.Record {
	t.Helper()
	r := &network.Record{}
	for _, u := range urls {
		if _, err := r.Add(network.Entry{Method: http.MethodHead, URL: u, Status: status}); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

func urlsOf(r *network.Record) (urls []string) {
	for _, e := range r.Entries() {
		urls = append(urls, e.URL)
	}
	return urls
}

// TestWriteRecord has two commands record at once: both records are kept, unless they contradict each other.
func TestWriteRecord(t *testing.T) {
	path := filepath.Join(t.TempDir(), "Dockerfile.lock")
	write := func(before *lock.File, r *network.Record) error {
		after := before.Clone()
		if r != nil {
			after.Downloads = r.Sum()
		} else {
			after.Downloads = ""
		}
		return writeLock(t.Context(), path, before, after, r)
	}
	read := func() (*lock.File, *network.Record) {
		f, _, err := lock.Read(path)
		if err != nil {
			t.Fatal(err)
		}
		r, err := network.Read(network.Path(path), f.Downloads)
		if err != nil {
			t.Fatal(err)
		}
		return f, r
	}
	if err := write(&lock.File{}, recordOf(t, 200, "http://a.test/")); err != nil {
		t.Fatal(err)
	}
	if err := write(&lock.File{}, recordOf(t, 200, "http://b.test/")); err != nil {
		t.Fatal(err)
	}
	f, r := read()
	if diff := cmp.Diff([]string{"http://a.test/", "http://b.test/"}, urlsOf(r)); diff != "" {
		t.Error(diff)
	}
	var conflict *network.ConflictError
	if err := write(&lock.File{}, recordOf(t, 404, "http://a.test/")); !errors.As(err, &conflict) {
		t.Errorf("%v", err)
	}
	if again, _ := read(); again.Downloads != f.Downloads {
		t.Error("a conflict changes the record")
	}
	// A command that began with the record of now replaces it.
	if err := write(f, recordOf(t, 404, "http://c.test/")); err != nil {
		t.Fatal(err)
	}
	f, r = read()
	if diff := cmp.Diff([]string{"http://c.test/"}, urlsOf(r)); diff != "" {
		t.Error(diff)
	}
	if err := write(f, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(network.Path(path)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the record is still there: %v", err)
	}
	if f, _ := read(); f.Downloads != "" {
		t.Error("the lock still names a record")
	}
}

func TestToRecord(t *testing.T) {
	old := recordOf(t, 200, "http://a.test/")
	if err := old.Allow("open.test"); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		what    string
		record  *network.Record
		do      LockDownloads
		refresh bool
		allow   []string
		urls    []string
		allowed []string
		none    bool
	}{
		{what: "no downloads", none: true},
		{what: "the first record", do: RecordDownloads, allow: []string{"b.test"}, allowed: []string{"b.test"}},
		{what: "recorded again", record: old, do: RecordDownloads, urls: []string{"http://a.test/"}, allowed: []string{"open.test"}},
		{what: "refreshed", record: old, do: RecordDownloads, refresh: true, allowed: []string{"open.test"}},
		{what: "kept", record: old, refresh: true, urls: []string{"http://a.test/"}, allowed: []string{"open.test"}},
		{what: "dropped", record: old, do: DropDownloads, none: true},
	} {
		p := &project{record: tt.record, options: Options{LockDownloads: tt.do, AllowDownloads: tt.allow}}
		r, err := p.toRecord(Refresh{All: tt.refresh})
		if err != nil || (r == nil) != tt.none {
			t.Fatalf("%s: %v, %v", tt.what, r, err)
		}
		if r == nil {
			continue
		}
		if diff := cmp.Diff([2][]string{tt.urls, tt.allowed}, [2][]string{urlsOf(r), r.Allowed()}); diff != "" {
			t.Errorf("%s: %s", tt.what, diff)
		}
	}
	repo, none := "registry.test/team/app", ""
	p := &project{record: old, options: Options{DownloadsRepo: &repo}}
	shared, err := p.toRecord(Refresh{})
	if err != nil || shared.Repo() != repo || old.Repo() != "" {
		t.Errorf("shared in %q, before %q, %v", shared.Repo(), old.Repo(), err)
	}
	p = &project{record: shared, options: Options{DownloadsRepo: &none}}
	if r, err := p.toRecord(Refresh{}); err != nil || r.Repo() != "" {
		t.Errorf("still shared: %v", err)
	}
	var noDownloads *NoDownloadsError
	if _, err := (&project{options: Options{DownloadsRepo: &repo}}).toRecord(Refresh{}); !errors.As(err, &noDownloads) {
		t.Errorf("without downloads: %v", err)
	}
	if _, err := (&project{options: Options{LockDownloads: RecordDownloads, AllowDownloads: []string{"no host/"}}}).toRecord(Refresh{}); err == nil {
		t.Error("a host with a slash is allowed")
	}
}

// TestDownloadsOf has the proxy of a build arg win over docker's, and the names of --add-host.
func TestDownloadsOf(t *testing.T) {
	p := &project{options: Options{Args: map[string]string{"http_proxy": "http://mine.test:1"}}}
	p.options.Settings = builder.Settings{
		Proxies: map[string]string{"HTTP_PROXY": "http://theirs.test:2", "HTTPS_PROXY": "http://theirs.test:3"},
		Hosts:   []string{"A.test=10.0.0.1", "six.test=[::5]", "gateway.test=host-gateway"},
	}
	upstream := p.upstream()
	proxy := upstream.ProxyFunc()
	for from, want := range map[string]string{"http://x.test/": "http://mine.test:1", "https://x.test/": "http://theirs.test:3"} {
		u, err := url.Parse(from)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := proxy(u); err != nil || got.String() != want {
			t.Errorf("%s through %v, not %s, %v", from, got, want, err)
		}
	}
	if diff := cmp.Diff(map[string]string{"a.test": "10.0.0.1", "six.test": "::5"}, hosts(p.options.Hosts)); diff != "" {
		t.Error(diff)
	}
	var none *NoCacheError
	if _, err := p.downloads(t.Context(), &network.Record{}); !errors.As(err, &none) {
		t.Errorf("%v", err)
	}
}

// TestReadRecord has a record that is not the lock's: only a command that replaces it, or that locks what two branches
// have merged, may go on.
func TestReadRecord(t *testing.T) {
	p := &project{lockfile: filepath.Join(t.TempDir(), "Dockerfile.lock"), lock: &lock.File{Downloads: recordOf(t, 200, "http://a.test/").Sum()}}
	var mismatch *network.MismatchError
	var syntax network.Errors
	for _, test := range []struct {
		file                     string
		keep, on, off, refreshed any // the error, if there is one
		has                      bool
	}{
		{"", &mismatch, &mismatch, nil, nil, false},
		{string(recordOf(t, 200, "http://b.test/").Format()), &mismatch, nil, nil, nil, true},
		{"<<<<<<< ours\n", &syntax, &syntax, nil, nil, false},
	} {
		if test.file != "" {
			if err := os.WriteFile(network.Path(p.lockfile), []byte(test.file), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		for _, by := range []struct {
			downloads LockDownloads
			all       bool
			want      any
		}{{KeepDownloads, false, test.keep}, {KeepDownloads, true, test.keep}, {RecordDownloads, false, test.on}, {DropDownloads, false, test.off}, {RecordDownloads, true, test.refreshed}} {
			p.record, p.otherRecord, p.options.LockDownloads = nil, false, by.downloads
			err := p.recordToReplace(Refresh{All: by.all})
			switch {
			case by.want != nil:
				if err == nil || !errors.As(err, by.want) {
					t.Errorf("%q, %q, refresh %v: %v", test.file, by.downloads, by.all, err)
				}
			case err != nil || !p.otherRecord || (p.record != nil) != test.has:
				t.Errorf("%q, %q, refresh %v: %v, %v, %v", test.file, by.downloads, by.all, p.record, p.otherRecord, err)
			}
		}
	}
}
