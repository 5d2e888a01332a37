package image

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/kedge-build/kedge/internal/chunk"
	"github.com/kedge-build/kedge/internal/layer"
	"github.com/kedge-build/kedge/internal/tartest"
	"github.com/klauspost/compress/gzip"
	"github.com/opencontainers/go-digest"
)

func normal(t testing.TB, layer []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := normalise(t.Context(), &b, bytes.NewReader(layer), epoch); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// compressed returns the canonical blob of a layer.
func compressed(t testing.TB, layer []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	if _, err := compress(t.Context(), &b, bytes.NewReader(layer), digest.FromBytes(layer), epoch); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestNormaliseEvensOut(t *testing.T) {
	want := normal(t, tartest.Tar(t, file("dir/a", "body")))
	tests := map[string]func(*tar.Header){
		"later time":       func(h *tar.Header) { h.ModTime = late.Add(time.Hour) },
		"time at epoch":    func(h *tar.Header) { h.ModTime = epoch },
		"nanoseconds":      func(h *tar.Header) { h.ModTime = epoch.Add(1); h.Format = tar.FormatPAX },
		"owner names":      func(h *tar.Header) { h.Uname, h.Gname = "root", "staff" },
		"access time":      func(h *tar.Header) { h.AccessTime, h.Format = late, tar.FormatPAX },
		"change time, GNU": func(h *tar.Header) { h.ChangeTime, h.Format = late, tar.FormatGNU },
		"GNU format":       func(h *tar.Header) { h.Format = tar.FormatGNU },
		"file type bits":   func(h *tar.Header) { h.Mode |= 0o100000 },
		"other records":    func(h *tar.Header) { h.PAXRecords = map[string]string{"VENDOR.note": "x", "comment": "y"} },
		"device numbers":   func(h *tar.Header) { h.Devmajor = 8 },
		"contiguous":       func(h *tar.Header) { h.Typeflag = tar.TypeCont },
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			got := normal(t, tartest.Tar(t, file("dir/a", "body").With(change)))
			if !bytes.Equal(got, want) {
				t.Error("the canonical layer differs")
			}
		})
	}
	global := tartest.Entry{Header: tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "git"}}}
	if !bytes.Equal(normal(t, tartest.Tar(t, global, file("dir/a", "body"))), want) {
		t.Error("a global header stays")
	}
}

func TestNormaliseKeepsDifferences(t *testing.T) {
	link := tartest.Entry{Header: tar.Header{Name: "l", Linkname: "target", Typeflag: tar.TypeSymlink, ModTime: epoch}}
	dev := tartest.Entry{Header: tar.Header{Name: "d", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3, ModTime: epoch}}
	tests := map[string][2]tartest.Entry{
		"content":       {file("a", "x"), file("a", "y")},
		"name":          {file("a", "x"), file("b", "x")},
		"mode":          {file("a", "x"), file("a", "x").With(func(h *tar.Header) { h.Mode = 0o755 })},
		"setuid":        {file("a", "x"), file("a", "x").With(func(h *tar.Header) { h.Mode |= 0o4000 })},
		"sticky":        {file("a", "x"), file("a", "x").With(func(h *tar.Header) { h.Mode |= 0o1000 })},
		"uid":           {file("a", "x"), file("a", "x").With(func(h *tar.Header) { h.Uid = 1 })},
		"gid":           {file("a", "x"), file("a", "x").With(func(h *tar.Header) { h.Gid = 1 })},
		"xattr":         {file("a", "x"), file("a", "x").With(func(h *tar.Header) { h.PAXRecords = map[string]string{xattrPrefix + "user.a": "1"} })},
		"older time":    {file("a", "x"), file("a", "x").With(func(h *tar.Header) { h.ModTime = epoch.Add(-time.Second) })},
		"link target":   {link, link.With(func(h *tar.Header) { h.Linkname = "other" })},
		"kind of link":  {link, link.With(func(h *tar.Header) { h.Typeflag = tar.TypeLink })},
		"major number":  {dev, dev.With(func(h *tar.Header) { h.Devmajor = 2 })},
		"minor number":  {dev, dev.With(func(h *tar.Header) { h.Devminor = 2 })},
		"block or char": {dev, dev.With(func(h *tar.Header) { h.Typeflag = tar.TypeBlock })},
	}
	for name, pair := range tests {
		t.Run(name, func(t *testing.T) {
			if bytes.Equal(normal(t, tartest.Tar(t, pair[0])), normal(t, tartest.Tar(t, pair[1]))) {
				t.Error("two layers became one")
			}
		})
	}
	a, b := file("a", ""), file("b", "")
	if bytes.Equal(normal(t, tartest.Tar(t, a, b)), normal(t, tartest.Tar(t, b, a))) {
		t.Error("the order of entries is lost")
	}
}

// TestNormaliseKeeps checks that normalisation keeps everything that a layer can hold.
func TestNormaliseKeeps(t *testing.T) {
	long := strings.Repeat("long/", 60) + strings.Repeat("n", 200)
	in := []tartest.Entry{
		file(long, "x"),
		file("latin1-\xe9\xff", "not UTF-8"),
		file("utf8-é", "x"),
		file("a b\nc", "x"),
		file("huge-owner", "x").With(func(h *tar.Header) { h.Uid, h.Gid = 4294967294, 3000000 }),
		file("before-1970", "x").With(func(h *tar.Header) { h.ModTime = time.Unix(-86400, 0) }),
		file("before-1970-fraction", "x").With(func(h *tar.Header) { h.ModTime = time.Unix(-2, 5e8); h.Format = tar.FormatPAX }),
		file("modes", "x").With(func(h *tar.Header) { h.Mode = 0o7777 }),
		file("xattrs", "x").With(func(h *tar.Header) {
			h.PAXRecords = map[string]string{xattrPrefix + "security.capability": "\x01\x00\x00\x02\xff=", xattrPrefix + "user.b": "1", xattrPrefix + "user.a": ""}
		}),
		{Header: tar.Header{Name: "dir", Typeflag: tar.TypeDir, Mode: 0o1777, ModTime: time.Unix(1, 0)}},
		{Header: tar.Header{Name: "dir/.wh.gone", Typeflag: tar.TypeReg, ModTime: time.Unix(1, 0)}},
		{Header: tar.Header{Name: "dir/.wh..wh..opq", Typeflag: tar.TypeReg, ModTime: late}},
		{Header: tar.Header{Name: "hard", Linkname: long, Typeflag: tar.TypeLink}},
		{Header: tar.Header{Name: "sym", Linkname: "../../\xff", Typeflag: tar.TypeSymlink, Mode: 0o777}},
		{Header: tar.Header{Name: "fifo", Typeflag: tar.TypeFifo, Mode: 0o600}},
		{Header: tar.Header{Name: "disk", Typeflag: tar.TypeBlock, Devmajor: 259, Devminor: 1048575}},
		{Header: tar.Header{Name: "null", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3}},
	}
	got := normal(t, tartest.Tar(t, in...))
	if again := normal(t, got); !bytes.Equal(got, again) {
		t.Error("normalising twice changes the layer")
	}
	r := tar.NewReader(bytes.NewReader(got))
	for _, e := range in {
		want := e.Header
		want.Size = int64(len(e.Body))
		if want.ModTime.After(epoch) || strings.Contains(want.Name, ".wh.") {
			want.ModTime = epoch
		}
		if want.ModTime.IsZero() {
			want.ModTime = time.Unix(0, 0)
		}
		want.ModTime = time.Unix(want.ModTime.Unix(), 0)
		if want.Typeflag == tar.TypeDir {
			want.Name += "/"
		}
		h, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if string(body) != e.Body {
			t.Errorf("%q: content %q, want %q", h.Name, body, e.Body)
		}
		xattrs := map[string]string{}
		for k, v := range h.PAXRecords {
			if strings.HasPrefix(k, xattrPrefix) {
				xattrs[k] = v
			}
		}
		if len(xattrs) != len(want.PAXRecords) {
			t.Errorf("%q: xattrs %q, want %q", h.Name, xattrs, want.PAXRecords)
		}
		for k, v := range want.PAXRecords {
			if xattrs[k] != v {
				t.Errorf("%q: xattr %q is %q, want %q", h.Name, k, xattrs[k], v)
			}
		}
		got := tar.Header{Typeflag: h.Typeflag, Name: h.Name, Linkname: h.Linkname, Size: h.Size, Mode: h.Mode, Uid: h.Uid, Gid: h.Gid, ModTime: h.ModTime, Devmajor: h.Devmajor, Devminor: h.Devminor}
		want.PAXRecords, want.Format = nil, 0
		if diff := gocmp.Diff(want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", want.Name, diff)
		}
	}
	if _, err := r.Next(); err != io.EOF {
		t.Errorf("more entries than before: %v", err)
	}
}

// sparse returns GNU tar's form of a file of size bytes whose last block only is not a hole (format
// oldgnu, which archive/tar reads and does not write).
func sparse(t testing.TB, size int64) []byte {
	t.Helper()
	const data = 512
	b := tartest.Tar(t, file("sparse", strings.Repeat("x", data)).With(func(h *tar.Header) { h.Format = tar.FormatGNU }))
	put := func(at int, v int64) { copy(b[at:], fmt.Sprintf("%011o\x00", v)) }
	b[156] = tar.TypeGNUSparse
	put(386, size-data) // offset of the one chunk
	put(398, data)      // its length
	put(483, size)      // real size
	copy(b[148:156], "        ")
	sum := 0
	for _, c := range b[:512] {
		sum += int(c)
	}
	copy(b[148:156], fmt.Sprintf("%06o\x00 ", sum))
	return b
}

func TestNormaliseSparse(t *testing.T) {
	got := normal(t, sparse(t, 4096))
	want := normal(t, tartest.Tar(t, file("sparse", strings.Repeat("\x00", 4096-512)+strings.Repeat("x", 512))))
	if !bytes.Equal(got, want) {
		t.Error("a sparse file is not the same as one in full")
	}
	err := normalise(t.Context(), io.Discard, bytes.NewReader(sparse(t, 8<<30+512)), epoch)
	if err == nil || !strings.Contains(err.Error(), "sparse file of") {
		t.Errorf("a sparse file of many gigabytes: %v", err)
	}
}

func brokenLayers(t testing.TB) map[string][]byte {
	good := tartest.Tar(t, file("first", "body"), file("second", strings.Repeat("b", 2000)))
	flip := func(at int, s string) []byte {
		b := bytes.Clone(good)
		copy(b[at:], s)
		return b
	}
	pax := func(record string) []byte {
		return tartest.Tar(t, tartest.Entry{Header: tar.Header{Name: "x", Typeflag: tar.TypeReg, Format: tar.FormatUSTAR}, Body: record}, file("f", "x"))
	}
	asPAX := func(b []byte) []byte {
		b = bytes.Clone(b)
		b[156] = tar.TypeXHeader
		copy(b[148:156], "        ")
		sum := 0
		for _, c := range b[:512] {
			sum += int(c)
		}
		copy(b[148:156], fmt.Sprintf("%06o\x00 ", sum))
		return b
	}
	return map[string][]byte{
		"truncated header":   good[:1200],
		"truncated body":     good[:2000],
		"bad checksum":       flip(0, "F"),
		"negative size":      asPAX(pax("18 size=-10000000\n")),
		"exabytes":           asPAX(pax("28 size=9000000000000000000\n")),
		"negative record":    asPAX(pax("-5 a=b\n")),
		"record without end": asPAX(pax("99999999 a=b\n")),
		"unknown type":       tartest.Tar(t, file("a", "").With(func(h *tar.Header) { h.Typeflag = 'Z' })),
		"leaves the root":    tartest.Tar(t, file("a/../../b", "")),
		"link out of root":   tartest.Tar(t, tartest.Entry{Header: tar.Header{Name: "a", Linkname: "../b", Typeflag: tar.TypeLink}}),
		"no tar":             tartest.Noise(2000),
	}
}

func TestNormaliseRefuses(t *testing.T) {
	for name, layer := range brokenLayers(t) {
		t.Run(name, func(t *testing.T) {
			if err := normalise(t.Context(), io.Discard, bytes.NewReader(layer), epoch); err == nil {
				t.Error("no error")
			}
		})
	}
}

type failAfter struct{ left int }

var errFull = errors.New("disk full")

func (w *failAfter) Write(p []byte) (int, error) {
	if w.left -= len(p); w.left < 0 {
		return 0, errFull
	}
	return len(p), nil
}

// FuzzLayer reads anything as a layer. Normalising an accepted layer twice changes nothing.
func FuzzLayer(f *testing.F) {
	for _, b := range brokenLayers(f) {
		f.Add(b)
	}
	f.Add(tartest.Tar(f, file("a", "x"), file("latin1-\xe9", ""), tartest.Entry{Header: tar.Header{Name: "l", Linkname: "t", Typeflag: tar.TypeSymlink}}))
	f.Add(tartest.Tar(f, file("x", "x").With(func(h *tar.Header) { h.PAXRecords = map[string]string{xattrPrefix + "a": "b"} })))
	f.Add(sparse(f, 4096))
	f.Add(tartest.Gzip(f, tartest.Tar(f, file("a", "x"))))
	f.Add(tartest.Zstd(f, tartest.Tar(f, file("a", "x"))))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		var first bytes.Buffer
		limit := &failAfter{left: 16 << 20}
		if err := normalise(t.Context(), io.MultiWriter(limit, &first), bytes.NewReader(data), epoch); err != nil {
			return
		}
		var second bytes.Buffer
		if err := normalise(t.Context(), &second, bytes.NewReader(first.Bytes()), epoch); err != nil {
			t.Fatalf("a canonical layer is refused: %v", err)
		}
		if !bytes.Equal(first.Bytes(), second.Bytes()) {
			t.Error("normalising twice changes the layer")
		}
	})
}

// mixedLayer returns a layer of n MiB that compresses in part.
func mixedLayer(t testing.TB, n int) []byte {
	t.Helper()
	random := tartest.Noise(1 << 20)
	var body strings.Builder
	for i := range n {
		body.Write(random[:700<<10])
		body.WriteString(strings.Repeat(fmt.Sprintf("line %d of text\n", i), 24<<10)[:324<<10])
	}
	return tartest.Tar(t, file("mixed", body.String()))
}

// TestCompressGolden holds the bytes of a canonical layer. If it fails, a dependency or Go changed the
// bytes that kedge writes: raise rules.Version and change the digest here.
func TestCompressGolden(t *testing.T) {
	const want = "sha256:171813fd22010fb327f6710f56147f6e0f58766b84d8bd199f628877d0885e58"
	if got := digest.FromBytes(compressed(t, tartest.Tar(t, append(smallFiles(), file("mixed", string(mixedLayer(t, 5))))...))); got != want {
		t.Errorf("digest %s, want %s", got, want)
	}
}

// smallFiles fill several chunks.
func smallFiles() []tartest.Entry {
	var files []tartest.Entry
	for i := range 1000 {
		files = append(files, file(fmt.Sprintf("usr/share/%d", i), strings.Repeat(fmt.Sprintf("%d\n", i), 400)))
	}
	return files
}

// TestCompressCuts checks that an edit changes few chunks.
func TestCompressCuts(t *testing.T) {
	files := smallFiles()
	before := chunks(t, tartest.Tar(t, files...))
	edits := map[string][]tartest.Entry{
		"longer":  slices.Replace(slices.Clone(files), 300, 301, file(files[300].Name, strings.Repeat("longer ", 10000))),
		"removed": slices.Delete(slices.Clone(files), 300, 301),
		"added":   slices.Insert(slices.Clone(files), 300, file("usr/share/300a", strings.Repeat("added ", 10000))),
	}
	for name, edited := range edits {
		t.Run(name, func(t *testing.T) {
			after, other := chunks(t, tartest.Tar(t, edited...)), 0
			for c := range after {
				if _, ok := before[c]; !ok {
					other++
				}
			}
			if len(after) < 10 || other == 0 || other > 3 {
				t.Errorf("%d of %d chunks are others", other, len(after))
			}
		})
	}
	large := chunks(t, tartest.Tar(t, file("a", "a"), file("large", strings.Repeat("large", 300<<10)), file("z", "z"), tartest.Entry{Header: tar.Header{Name: "l", Linkname: "a", Typeflag: tar.TypeLink, ModTime: late}}, file(".wh.x", "")))
	var got []string
	for _, c := range large {
		got = append(got, c)
	}
	slices.Sort(got)
	// The small file, three chunks of the large one, the two small ones with a link and a whiteout, the
	// end.
	if d := gocmp.Diff([]string{"", "", "start", "start", "start", "start apart"}, got); d != "" {
		t.Error(d)
	}
}

// chunks returns the chunks of a layer and their kinds.
func chunks(t testing.TB, layer []byte) map[string]string {
	t.Helper()
	all := map[string]string{}
	s := chunk.NewScanner(bytes.NewReader(compressed(t, layer)))
	for s.Scan() {
		var what []string
		if s.Flags()&chunk.Start != 0 {
			what = append(what, "start")
		}
		if s.Flags()&chunk.Apart != 0 {
			what = append(what, "apart")
		}
		all[string(s.Bytes())] = strings.Join(what, " ")
	}
	if s.Err() != nil {
		t.Fatal(s.Err())
	}
	return all
}

func TestCompressDoesNotDependOn(t *testing.T) {
	layer := mixedLayer(t, 12)
	want := compressed(t, layer)
	if !bytes.HasPrefix(want, []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255}) {
		t.Errorf("gzip header % x, want no name, no time, unknown system", want[:10])
	}
	zr, err := gzip.NewReader(bytes.NewReader(want))
	if err != nil {
		t.Fatal(err)
	}
	if content, err := io.ReadAll(zr); err != nil || !bytes.Equal(content, normal(t, layer)) {
		t.Errorf("the blob does not hold the layer: %v", err)
	}
	t.Run("cores", func(t *testing.T) {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
		for _, n := range []int{1, 2, 7, 32} {
			runtime.GOMAXPROCS(n)
			for range 2 {
				if !bytes.Equal(compressed(t, layer), want) {
					t.Errorf("%d cores give other bytes", n)
				}
			}
		}
	})
	t.Run("reads", func(t *testing.T) {
		for _, n := range []int{1, 511, 70000} {
			small := readerFunc(nil)
			r := bytes.NewReader(layer)
			small = func(p []byte) (int, error) { return r.Read(p[:min(len(p), n)]) }
			var b bytes.Buffer
			if _, err := compress(t.Context(), &b, small, digest.FromBytes(layer), epoch); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(b.Bytes(), want) {
				t.Errorf("reads of %d bytes give other bytes", n)
			}
		}
	})
}

func TestCompressFails(t *testing.T) {
	layer := mixedLayer(t, 4)
	if _, err := compress(t.Context(), &failAfter{left: 1 << 20}, bytes.NewReader(layer), digest.FromBytes(layer), epoch); !errors.Is(err, errFull) {
		t.Errorf("full disk: %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	read := 0
	r := bytes.NewReader(layer)
	src := readerFunc(func(p []byte) (int, error) {
		if read += len(p); read > 1<<20 {
			cancel(errInterrupted)
		}
		return r.Read(p)
	})
	if _, err := compress(ctx, io.Discard, src, digest.FromBytes(layer), epoch); !errors.Is(err, errInterrupted) {
		t.Errorf("interrupted: %v", err)
	}
}

// TestLayerMemory measures the peak memory of a process that runs this test.
func TestLayerMemory(t *testing.T) {
	const child = "KEDGE_TEST_LAYER_MEMORY"
	if testing.Short() {
		t.Skip("streams 1 GiB")
	}
	if os.Getenv(child) == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^TestLayerMemory$", "-test.v")
		cmd.Env = append(os.Environ(), child+"=1")
		out, err := cmd.CombinedOutput()
		t.Logf("%s", out)
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	const size = 1 << 30
	pr, pw := io.Pipe()
	id := make(chan digest.Digest, 1)
	generate := func(w io.Writer) {
		tw := tar.NewWriter(w)
		h := &tar.Header{Name: "big", Mode: 0o644, Size: size, Typeflag: tar.TypeReg}
		if err := tw.WriteHeader(h); err != nil {
			t.Error(err)
		}
		chunk := tartest.Noise(1 << 20)
		copy(chunk[600<<10:], bytes.Repeat([]byte("some text "), 50<<10))
		for range size >> 20 {
			if _, err := tw.Write(chunk); err != nil {
				t.Error(err)
			}
		}
		if err := tw.Close(); err != nil {
			t.Error(err)
		}
	}
	sum := digest.Canonical.Digester()
	generate(sum.Hash())
	id <- sum.Digest()
	go func() {
		generate(pw)
		pw.Close()
	}()
	if _, err := compress(t.Context(), io.Discard, pr, <-id, epoch); err != nil {
		t.Fatal(err)
	}
	peak := vmHWM(t)
	t.Logf("peak %d MiB", peak>>20)
	if peak > 200<<20 {
		t.Errorf("peak %d MiB, want at most 200", peak>>20)
	}
}

// vmHWM returns the peak memory of this process, in bytes.
func vmHWM(t *testing.T) int64 {
	t.Helper()
	for line := range strings.Lines(readFile(t, "/proc/self/status")) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n << 10
		}
	}
	t.Fatal("no VmHWM")
	return 0
}

// normalise and compress canonicalise a layer without any rule.
func normalise(ctx context.Context, dst io.Writer, src io.Reader, epoch time.Time) error {
	r, err := layer.Open(ctx, io.NopCloser(src), layer.Digests{})
	if err != nil {
		return err
	}
	defer r.Close()
	return (&plan{epoch: epoch}).normalise(dst, r, func(*tar.Header) error { return nil })
}

func compress(ctx context.Context, dst io.Writer, raw io.Reader, want digest.Digest, epoch time.Time) (digest.Digest, error) {
	r, err := layer.Open(ctx, io.NopCloser(raw), layer.Digests{DiffID: want})
	if err != nil {
		return "", err
	}
	defer r.Close()
	diffID, _, err := (&plan{epoch: epoch}).compress(dst, r, nil)
	return diffID, err
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

const xattrPrefix = "SCHILY.xattr."
