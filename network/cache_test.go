package network

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/kedge-build/kedge/lock"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

func openCache(t *testing.T, dir string) *Cache {
	t.Helper()
	c, err := OpenCache(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// put adds a body and its entry.
func put(t *testing.T, c *Cache, r *Record, url, body string, steps ...string) digest.Digest {
	t.Helper()
	d := digest.FromString(body)
	if err := c.Put(d, strings.NewReader(body)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Add(Entry{Method: "GET", URL: url, Status: 200, Digest: d, Size: int64(len(body)), Steps: steps}); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestCache(t *testing.T) {
	dir := t.TempDir()
	c := openCache(t, filepath.Join(dir, "cache"))
	var damaged *DamagedError
	if err := c.Put(digest.FromString("right"), strings.NewReader("wrong")); !errors.As(err, &damaged) || c.Has(digest.FromString("right")) {
		t.Errorf("another content: %v", err)
	}
	if _, err := c.Open("sha256:../../etc/passwd"); err == nil {
		t.Error("a path is taken as a digest")
	}
	if _, err := c.Open(digestA); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}

	one, two := &Record{}, &Record{}
	one.AddStep(Step{ID: "aaaaaaaa", Name: "build: RUN curl"})
	shared := put(t, c, one, "https://h/shared", "shared", "aaaaaaaa")
	alone := put(t, c, one, "https://h/alone", "all alone", "aaaaaaaa")
	put(t, c, two, "https://h/shared", "shared")
	loose := put(t, c, &Record{}, "https://h/loose", "loose")
	paths := []string{filepath.Join(dir, "one.downloads"), filepath.Join(dir, "two.downloads")}
	for i, r := range []*Record{one, two} {
		if err := os.WriteFile(paths[i], r.Format(), 0o644); err != nil {
			t.Fatal(err)
		}
		for range 2 { // a second time changes nothing
			if _, err := c.Keep(t.Context(), paths[i], r); err != nil {
				t.Fatal(err)
			}
		}
	}
	records, err := c.Records()
	if err != nil || len(records) != 2 || records[0].Path != paths[0] || string(records[0].Record.Format()) != string(one.Format()) {
		t.Errorf("%+v, %v", records, err)
	}
	uses, err := c.Uses("https://user@H/shared#x")
	if err != nil || len(uses) != 2 || uses[0].Path != paths[0] || len(uses[0].Steps) != 1 || uses[0].Steps[0] != "build: RUN curl" {
		t.Errorf("%+v, %v", uses, err)
	}
	if uses, err = c.Uses(string(alone)); err != nil || len(uses) != 1 {
		t.Errorf("%+v, %v", uses, err)
	}
	var notKept *NotKeptError
	if _, err = c.Uses(string(loose)); !errors.As(err, &notKept) {
		t.Errorf("got %v", err)
	}
	usage, total, unused, err := c.Usage()
	if err != nil || len(usage) != 2 || usage[0].Bytes != 15 || usage[0].Only != 9 || usage[1].Only != 0 || unused != 5 || total <= 20 {
		t.Errorf("%+v, %d, %d, %v", usage, total, unused, err)
	}

	other := openCache(t, c.Dir())
	var busy *BusyError
	if _, err := c.Prune(t.Context(), false); !errors.As(err, &busy) {
		t.Errorf("pruned while it is in use: %v", err)
	}
	other.Close()
	if err := os.WriteFile(c.blob(shared), []byte("sharEd"), 0o644); err != nil {
		t.Fatal(err)
	}
	if bad, err := c.Damaged(t.Context()); err != nil || len(bad) != 1 || bad[0] != shared {
		t.Errorf("damaged %v, %v", bad, err)
	}
	if pruned, err := c.Prune(t.Context(), false); err != nil || pruned.Files != 2 || pruned.Bytes != 11 || len(pruned.Records) != 0 {
		t.Errorf("%+v, %v", pruned, err)
	}
	if c.Has(shared) || c.Has(loose) || !c.Has(alone) {
		t.Error("prune removed other bodies than the damaged and the unused")
	}
	os.Remove(paths[0])
	if pruned, err := c.Prune(t.Context(), false); err != nil || len(pruned.Records) != 1 || pruned.Records[0] != paths[0] || c.Has(alone) {
		t.Errorf("%+v, %v", pruned, err)
	}
	if _, err := c.Prune(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if records, err := c.Records(); err != nil || len(records) != 0 {
		t.Errorf("%v, %v", records, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "mine"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenCache(t.Context(), dir); err == nil {
		t.Error("a folder of the user's is taken as a cache")
	}
}

// A base image is kept with its layers, and found only if all of it is there for the platform.
func TestBase(t *testing.T) {
	dir := t.TempDir()
	c, from := openCache(t, filepath.Join(dir, "cache")), openCache(t, filepath.Join(dir, "from"))
	lockfile := filepath.Join(dir, "Dockerfile.lock")
	if err := os.WriteFile(lockfile, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	layer := put(t, from, &Record{}, "http://h/", "a layer")
	amd64, arm64 := ocispec.Platform{OS: "linux", Architecture: "amd64"}, ocispec.Platform{OS: "linux", Architecture: "arm64"}
	b := Base{Ref: "docker.io/library/debian:12", Pin: digestA}
	find := func(b Base, p ocispec.Platform) bool {
		_, ok := c.Base(t.Context(), b, []ocispec.Platform{p})
		return ok
	}
	if find(b, amd64) {
		t.Error("an image from nowhere")
	}
	images := []BaseImage{{Platform: amd64, Config: []byte("{}"), Layers: []ocispec.Descriptor{{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: layer, Size: 7}}}}
	if err := c.KeepBase(t.Context(), lockfile, b, images, from); err != nil {
		t.Fatal(err)
	}
	if !find(b, amd64) || find(b, arm64) || find(Base{Ref: b.Ref, Pin: digestB}, amd64) {
		t.Error("another image, or none")
	}
	if records, err := c.Records(); err != nil || len(records) != 0 {
		t.Errorf("%v, %v", records, err)
	}
	if p, err := c.Prune(t.Context(), false); err != nil || p.Files != 0 || !find(b, amd64) {
		t.Errorf("%+v, %v", p, err)
	}
	if err := os.WriteFile(c.blob(layer), []byte("A layer"), 0o644); err != nil {
		t.Fatal(err)
	}
	if find(b, amd64) {
		t.Error("a damaged image is given to builds")
	}
	if err := c.KeepBase(t.Context(), lockfile, b, images, from); err != nil || !find(b, amd64) {
		t.Error(err)
	}
	os.Remove(lockfile)
	if p, err := c.Prune(t.Context(), false); err != nil || p.Files != 4 || find(b, amd64) {
		t.Errorf("%+v, %v", p, err)
	}
}

// The key of the authority is made once, also by processes that begin at the same time, and only the user can
// read it.
func TestAuthority(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	var wg sync.WaitGroup
	certs := make([][]byte, 20)
	for i := range certs {
		wg.Go(func() {
			ca, err := OpenCA(dir)
			if err != nil {
				t.Error(err)
				return
			}
			certs[i] = ca.PEM()
		})
	}
	wg.Wait()
	for _, c := range certs {
		if !bytes.Equal(c, certs[0]) || bytes.Contains(c, []byte("PRIVATE")) {
			t.Fatal("two authorities, or the key of one")
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("%v, %v", entries, err)
	}
	file := filepath.Join(dir, "ca.pem")
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenCA(dir); err == nil {
		t.Error("a key that others can read is used")
	}
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	os.Chmod(file, 0o600)
	if _, err := OpenCA(dir); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("got %v", err)
	}
}

// A package that its mirror has dropped comes from the archive, by its name, and only with its digest.
func TestArchive(t *testing.T) {
	const body = "the package"
	var asked []string
	archive := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.Path)
		switch r.URL.Path {
		case "/a/mr/binary/libfoo1/":
			io.WriteString(w, `{"result":[{"binary_version":"1.2-1"},{"binary_version":"2:1.2-3+b1"},{"binary_version":"1.2-3"}]}`)
		case "/a/mr/binary/libfoo1/2:1.2-3+b1/binfiles":
			io.WriteString(w, `{"result":[{"hash":"00ff","architecture":"arm64"},{"hash":"beef","architecture":"amd64"},{"hash":"cafe","architecture":"amd64"}]}`)
		case "/a/file/beef":
			io.WriteString(w, "another one")
		case "/a/file/cafe":
			io.WriteString(w, body)
		default:
			http.NotFound(w, r)
		}
	}))
	defer archive.Close()
	b := newBed(t, http.NotFound)
	b.options.Archive = archive.URL + "/a/"
	url := b.origin.URL + "/debian/pool/main/f/foo/libfoo1_1.2-3+b1_amd64.deb"
	for _, e := range []Entry{
		{Method: "GET", URL: url, Status: 200, Digest: digest.FromString(body), Size: int64(len(body))},
		{Method: "GET", URL: strings.Replace(url, "amd64", "arm64", 1), Status: 200, Digest: digestA, Size: 3},
	} {
		if _, err := b.record.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	b.replaying()
	b.want(b.get(step1, url), 200, body)
	if errs := b.failed(); len(errs) > 0 {
		t.Error(errs)
	}
	restored, err := b.proxy.Restore(t.Context())
	var missing *MissingError
	if !errors.As(err, &missing) || len(missing.Entries) != 1 || !strings.HasSuffix(missing.Entries[0].URL, "arm64.deb") || len(restored) != 0 {
		t.Errorf("%v, %v", restored, err)
	}
	asked = nil
	b.options.Offline = true
	b.replaying()
	if _, err := b.proxy.Restore(t.Context()); !errors.As(err, &missing) || len(asked) > 0 {
		t.Errorf("offline: %v, asked for %v", err, asked)
	}
}

// helperEnv makes the test program a process that records: DIR URL N. With a negative N it replays.
const helperEnv = "KEDGE_NETWORK_HELPER"

func TestMain(m *testing.M) {
	if args := os.Getenv(helperEnv); args != "" {
		var dir, base string
		var n int
		if _, err := fmt.Sscanf(args, "%s %s %d", &dir, &base, &n); err != nil {
			panic(err)
		}
		if err := helper(dir, base, n); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// helper records n files and writes record and lockfile, as a build does. Of a negative n it replays -n files, and writes
// nothing but bodies that the cache lacks.
func helper(dir, base string, n int) error {
	ctx := context.Background()
	lockfile := filepath.Join(dir, "Dockerfile.lock")
	f, _, err := lock.Read(lockfile)
	if err != nil {
		return err
	}
	record, err := Read(Path(lockfile), f.Downloads)
	if err != nil {
		return err
	}
	if record == nil {
		record = &Record{}
	}
	cache, err := OpenCache(ctx, filepath.Join(dir, "cache"))
	if err != nil {
		return err
	}
	defer cache.Close()
	ca, err := OpenCA(filepath.Join(dir, "ca"))
	if err != nil {
		return err
	}
	var failed error
	proxy, replays := NewRecorder, n < 0
	if replays {
		proxy, n = NewReplayer, -n
	}
	p := proxy(Options{Record: record, Cache: cache, CA: ca, Failed: func(_ Step, err error) { failed = err }})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go p.ServeConn(ctx, step1, c)
		}
	}()
	client := &http.Client{Transport: &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: l.Addr().String()})}}
	for i := range n {
		resp, err := client.Get(fmt.Sprintf("%s/%d", base, i))
		if err != nil {
			return err
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || !strings.HasPrefix(string(text), fmt.Sprintf("file /%d ", i)) {
			return fmt.Errorf("got %.50s, %v", text, err)
		}
	}
	if err := errors.Join(p.Close(ctx), failed, cache.Sync()); err != nil || replays {
		return err
	}
	var sum digest.Digest
	err = lock.Update(ctx, lockfile, func(f *lock.File) error {
		now, err := Read(Path(lockfile), f.Downloads)
		if err != nil {
			return err
		}
		if now != nil {
			if err := record.Merge(now); err != nil {
				return err
			}
		}
		sum, err = Stage(Path(lockfile), f.Downloads, record)
		f.Downloads = sum
		return err
	})
	if err != nil {
		return err
	}
	if err := Adopt(Path(lockfile), sum); err != nil {
		return err
	}
	_, err = cache.Keep(ctx, Path(lockfile), record)
	return err
}

func startHelper(t *testing.T, dir, base string, n int) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s %d", helperEnv, dir, base, n))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, &stderr
}

// files is an origin whose files differ with every request.
func files(t *testing.T) *httptest.Server {
	var n atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "file %s of request %d\n", r.URL.Path, n.Add(1))
		w.(http.Flusher).Flush()
		io.WriteString(w, strings.Repeat("x", 20_000))
	}))
	t.Cleanup(s.Close)
	return s
}

// whole checks everything that a process leaves, and returns the record.
func whole(t *testing.T, dir string) *Record {
	t.Helper()
	return wholeBut(t, dir, false)
}

// wholeBut is whole for a cache that may lack bodies.
func wholeBut(t *testing.T, dir string, lacking bool) *Record {
	t.Helper()
	lockfile := filepath.Join(dir, "Dockerfile.lock")
	f, _, err := lock.Read(lockfile)
	if err != nil {
		t.Fatal(err)
	}
	record, err := Read(Path(lockfile), f.Downloads)
	if err != nil {
		t.Fatal(err)
	}
	cache, err := OpenCache(t.Context(), filepath.Join(dir, "cache"))
	if err != nil {
		t.Fatal(err)
	}
	defer cache.Close()
	if damaged, err := cache.Damaged(t.Context()); err != nil || len(damaged) > 0 {
		t.Fatalf("damaged %v, %v", damaged, err)
	}
	if _, err := cache.Records(); err != nil {
		t.Fatal(err)
	}
	if record != nil && !lacking {
		if err := cache.Missing(record); err != nil {
			t.Fatal(err)
		}
	}
	if left, err := os.ReadDir(filepath.Join(dir, "cache", tmpDir)); err != nil || len(left) > 0 {
		t.Fatalf("left behind: %v, %v", left, err)
	}
	return record
}

// Killed at random moments, a recording process leaves cache, record and lockfile whole, and the next one is
// right and moves nothing.
func TestKilledWhileRecording(t *testing.T) {
	origin := files(t)
	dir := t.TempDir()
	begin := time.Now()
	cmd, stderr := startHelper(t, t.TempDir(), origin.URL, 20)
	if err := cmd.Wait(); err != nil {
		t.Fatal(err, stderr)
	}
	takes := time.Since(begin)
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	var locked *Record
	killed := 0
	for round := range 30 {
		cmd, _ := startHelper(t, dir, origin.URL, 20*(round+1)) // those of finished rounds, and new ones
		time.Sleep(time.Duration(random.Float64() * float64(1+round/8) * float64(takes)))
		_ = cmd.Process.Kill()
		if cmd.Wait() != nil {
			killed++
		}
		now := whole(t, dir)
		if locked != nil {
			if now == nil || now.Len() < locked.Len() || now.Clone().Merge(locked) != nil {
				t.Fatalf("round %d of seed %d moved the record", round, seed)
			}
		}
		locked = now
	}
	t.Logf("%d of 30 killed, seed %d", killed, seed)
	cmd, stderr = startHelper(t, dir, origin.URL, 600)
	if err := cmd.Wait(); err != nil {
		t.Fatalf("seed %d: %v, %s", seed, err, stderr)
	}
	if r := whole(t, dir); r.Len() != 600 {
		t.Errorf("seed %d: %s", seed, r.Format())
	}
}

// Killed at random moments, a process that replays, and fetches what the cache lacks, leaves cache, record and lockfile
// whole, and the next one is right.
func TestKilledWhileReplaying(t *testing.T) {
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "file %s \n", r.URL.Path)
		w.(http.Flusher).Flush()
		io.WriteString(w, strings.Repeat("x", 20_000))
	}))
	defer origin.Close()
	dir := t.TempDir()
	const n = 40
	finish := func(n int) (takes time.Duration) {
		t.Helper()
		begin := time.Now()
		cmd, stderr := startHelper(t, dir, origin.URL, n)
		if err := cmd.Wait(); err != nil {
			t.Fatal(err, stderr)
		}
		return time.Since(begin)
	}
	finish(n)
	locked := string(whole(t, dir).Format())
	lose := func() {
		t.Helper()
		cache := openCache(t, filepath.Join(dir, "cache"))
		for i, e := range wholeBut(t, dir, true).Bodies() {
			if i%2 == 0 {
				if err := os.Remove(cache.blob(e.Digest)); err != nil && !errors.Is(err, fs.ErrNotExist) {
					t.Fatal(err)
				}
			}
		}
	}
	lose()
	takes := finish(-n)
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	killed := 0
	for round := range 30 {
		lose()
		cmd, _ := startHelper(t, dir, origin.URL, -n)
		time.Sleep(time.Duration(random.Float64() * float64(takes)))
		_ = cmd.Process.Kill()
		if cmd.Wait() != nil {
			killed++
		}
		if now := wholeBut(t, dir, true); string(now.Format()) != locked {
			t.Fatalf("round %d of seed %d moved the record", round, seed)
		}
		if round%10 == 9 {
			finish(-n)
			if now := whole(t, dir); string(now.Format()) != locked {
				t.Fatalf("after round %d of seed %d the record is another", round, seed)
			}
		}
	}
	t.Logf("%d of 30 killed, seed %d", killed, seed)
}

// Processes that record at the same time agree on one answer for each URL, or one of them fails and says so.
func TestTwoProcesses(t *testing.T) {
	origin := files(t)
	dir := t.TempDir()
	first, firstErr := startHelper(t, dir, origin.URL, 10)
	second, secondErr := startHelper(t, dir, origin.URL, 20)
	errs := []error{first.Wait(), second.Wait()}
	for i, stderr := range []*bytes.Buffer{firstErr, secondErr} {
		if errs[i] != nil && !strings.Contains(stderr.String(), "another command recorded another answer") {
			t.Errorf("%v, %s", errs[i], stderr)
		}
	}
	if errs[0] != nil && errs[1] != nil {
		t.Error("both failed")
	}
	cmd, stderr := startHelper(t, dir, origin.URL, 20)
	if err := cmd.Wait(); err != nil {
		t.Fatal(err, stderr)
	}
	if r := whole(t, dir); r.Len() != 20 {
		t.Errorf("%s", r.Format())
	}
	// Without changes upstream, both are right.
	same := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "file %s of all", r.URL.Path) }))
	defer same.Close()
	dir = t.TempDir()
	first, firstErr = startHelper(t, dir, same.URL, 10)
	second, secondErr = startHelper(t, dir, same.URL, 20)
	if err := errors.Join(first.Wait(), second.Wait()); err != nil {
		t.Errorf("%v, %s, %s", err, firstErr, secondErr)
	}
	if r := whole(t, dir); r.Len() != 20 {
		t.Errorf("%s", r.Format())
	}
}

// On a full disk the step sees a broken connection, the build is told, and nothing is half there.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		if os.Getenv("KEDGE_TEST_REQUIRE") != "" {
			t.Fatal(err)
		}
		t.Skip("mounting a small file system: ", err)
	}
	defer func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }()
	for name, announce := range map[string]bool{"a length": true, "chunks": false} {
		b := &bed{t: t, dir: dir, record: &Record{}}
		handler := func(w http.ResponseWriter, r *http.Request) {
			size := 100
			if r.URL.Path == "/large" {
				size = 4 << 20
			}
			if announce {
				w.Header().Set("Content-Length", fmt.Sprint(size))
			}
			io.WriteString(w, strings.Repeat("x", size))
		}
		b.origin, b.secure = httptest.NewServer(http.HandlerFunc(handler)), httptest.NewTLSServer(nil)
		b.open()
		b.recording()
		if got := b.get(step1, b.origin.URL+"/large"); got.err == nil {
			t.Errorf("%s: got %d, %d bytes", name, got.status, len(got.body))
		}
		if errs := b.failed(); len(errs) != 1 || !errors.Is(errs[0], syscall.ENOSPC) {
			t.Errorf("%s: failed with %v", name, errs)
		}
		b.stop()
		b.failures = nil
		for { // the handler of the broken connection closes the file, which frees its space
			var disk unix.Statfs_t
			left, err := os.ReadDir(filepath.Join(dir, "cache", tmpDir))
			if err != nil || len(left) == 0 && (unix.Statfs(dir, &disk) != nil || disk.Bfree > disk.Blocks/2) {
				break
			}
			time.Sleep(time.Millisecond)
		}
		b.recording()
		b.want(b.get(step1, b.origin.URL+"/small"), 200, strings.Repeat("x", 100))
		b.stop()
		if b.record.Len() != 1 || len(b.failed()) > 0 {
			t.Errorf("%s: %v, recorded %s", name, b.failed(), b.record.Format())
		}
		b.cache.Close()
		b.origin.Close()
		b.secure.Close()
	}
}

// A large download passes through without a large process.
func TestLargeBodyStreams(t *testing.T) {
	if testing.Short() {
		t.Skip("256 MiB")
	}
	const size = 256 << 20
	b := newBed(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(size))
		_, _ = io.CopyN(w, zeros{}, size)
	})
	rss := func() int64 {
		var kib int64
		data, _ := os.ReadFile("/proc/self/status")
		for line := range strings.Lines(string(data)) {
			_, _ = fmt.Sscanf(line, "VmHWM: %d kB", &kib)
		}
		return kib >> 10
	}
	before := rss()
	ask := func() {
		begin := time.Now()
		c := b.client(step1)
		c.Timeout = 0
		defer c.CloseIdleConnections()
		resp, err := c.Get(b.origin.URL + "/f")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if n, err := io.Copy(io.Discard, resp.Body); n != size || err != nil {
			t.Errorf("%d bytes, %v", n, err)
		}
		t.Logf("%.0f MB/s", size/1e6/time.Since(begin).Seconds())
	}
	b.recording()
	ask()
	b.replaying()
	ask()
	if grown := rss() - before; grown > 100 {
		t.Errorf("the process grew by %d MiB", grown)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// shared is a repository in memory.
type shared map[digest.Digest]string

func (s shared) Fetch(_ context.Context, dgst digest.Digest, _ int64) (io.ReadCloser, error) {
	body, ok := s[dgst]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return io.NopCloser(strings.NewReader(body)), nil
}

// What a repository shares is taken before the origin is asked, and only if it has the digest of the record.
func TestSharedBodies(t *testing.T) {
	var asked atomic.Int32
	b := newBed(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		io.WriteString(w, "body of "+r.URL.Path)
	})
	repo := shared{}
	for _, path := range []string{"/good", "/bad", "/long", "/none"} {
		body := "body of " + path
		d := digest.FromString(body)
		if _, err := b.record.Add(Entry{Method: "GET", URL: b.origin.URL + path, Status: 200, Digest: d, Size: int64(len(body))}); err != nil {
			t.Fatal(err)
		}
		switch path {
		case "/good":
			repo[d] = body
		case "/bad":
			repo[d] = "x"
		case "/long":
			repo[d] = body + strings.Repeat("x", 1<<20)
		}
	}
	b.options.Repo = repo
	b.replaying()
	for i, path := range []string{"/good", "/bad", "/long", "/none"} {
		b.want(b.get(step1, b.origin.URL+path), 200, "body of "+path)
		if n := int(asked.Load()); n != i {
			t.Errorf("%s: the origin was asked %d times, want %d", path, n, i)
		}
	}
	if errs := b.failed(); len(errs) > 0 {
		t.Error(errs)
	}
	// If no place has the body, the error says what each said, and no URL with its credentials.
	b.origin.Close()
	url := b.origin.URL + "/lost"
	if _, err := b.record.Add(Entry{Method: "GET", URL: url, Status: 200, Digest: digestA, Size: 3}); err != nil {
		t.Fatal(err)
	}
	b.replaying()
	_ = b.get(step1, url+"?token=hunter2")
	errs := b.failed()
	if len(errs) != 1 || !strings.Contains(errs[0].Error(), "/lost ("+string(digestA)+"): the repository: has none; its server: dial tcp") || strings.Contains(errs[0].Error(), "hunter2") {
		t.Error(errs)
	}
}
