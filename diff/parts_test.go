package diff

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/kedge-build/kedge/internal/chunk"
	"github.com/kedge-build/kedge/internal/layer"
	"github.com/kedge-build/kedge/internal/tartest"
)

// random is a blob with random access. It counts the reads that use it.
type random struct {
	*bytes.Reader
	reads *int
}

func (r random) Close() error { return nil }

func (r random) ReadAt(p []byte, at int64) (int, error) {
	*r.reads++
	return r.Reader.ReadAt(p, at)
}

// appendBlob adds a compressed layer to an image and counts the reads of its parts.
func appendBlob(t testing.TB, img v1.Image, blob []byte) (v1.Image, *int) {
	t.Helper()
	reads := new(int)
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return random{bytes.NewReader(blob), reads}, nil
	}, tarball.WithMediaType(types.OCILayer))
	if err != nil {
		t.Fatal(err)
	}
	if img, err = mutate.Append(img, mutate.Addendum{Layer: l}); err != nil {
		t.Fatal(err)
	}
	*reads = 0
	return img, reads
}

// inChunks compresses a layer. Each chunk has that many entries, and the end is a chunk of its own.
func inChunks(t testing.TB, every int, files ...file) []byte {
	t.Helper()
	var blob bytes.Buffer
	zw, err := chunk.NewWriter(&blob, 6, 1)
	if err != nil {
		t.Fatal(err)
	}
	tw := tar.NewWriter(zw)
	for i, f := range files {
		if i%every == 0 {
			must(t, errors.Join(tw.Flush(), zw.Cut()))
		}
		if f.Typeflag == tar.TypeLink || strings.HasPrefix(path.Base(f.Name), ".wh.") {
			zw.Mark(chunk.Apart)
		}
		h := f.Header
		h.Size = int64(len(f.Body))
		must(t, tw.WriteHeader(&h))
		if _, err := io.WriteString(tw, f.Body); err != nil {
			t.Fatal(err)
		}
	}
	must(t, errors.Join(tw.Flush(), zw.Cut(), tw.Close(), zw.Close()))
	return blob.Bytes()
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// chunked returns a picture with its layers in chunks.
func chunked(t testing.TB, every int, layers ...[]file) (img v1.Image, reads *int) {
	t.Helper()
	img, reads = picture(t), new(int)
	for _, files := range layers {
		var n *int
		img, n = appendBlob(t, img, inChunks(t, every, files...))
		if len(layers) == 1 {
			reads = n
		}
	}
	return img, reads
}

func TestImagesReadInParts(t *testing.T) {
	var a, b []file
	for i := range 300 {
		f := regular(fmt.Sprintf("d/%03d", i), strings.Repeat("x", i))
		a, b = append(a, f), append(b, f)
	}
	b[17].Body, b[200].Mode = "changed", 0o600
	b = append(b, regular("new", "n"))
	first, reads := chunked(t, 10, a)
	second, _ := chunked(t, 10, b)
	r := compare(t, first, second)
	if d := cmp.Diff([]string{"changed /d/017 content", "changed /d/200 mode", "added /new"}, said(r.Files)); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
	if *reads == 0 || *reads > 10 { // two chunks, and the one at the end
		t.Errorf("%d reads of parts of the first image", *reads)
	}
}

// TestImagesInParts: layers in chunks give the same result as other layers.
func TestImagesInParts(t *testing.T) {
	seeds := uint64(300)
	if testing.Short() {
		seeds = 30
	}
	for seed := range seeds {
		rnd := rand.New(rand.NewPCG(seed, 1))
		first := someLayers(rnd)
		second := edited(rnd, first)
		every := 1 + rnd.IntN(3)
		plainA, plainB := picture(t, first...), picture(t, second...)
		a, _ := chunked(t, every, first...)
		b, _ := chunked(t, every, second...)
		want, got := compare(t, plainA, plainB), compare(t, a, b)
		if d := cmp.Diff([]any{want.Files, want.Layers, want.Packages, want.Notes}, []any{got.Files, got.Layers, got.Packages, got.Notes}); d != "" {
			t.Fatalf("seed %d: -plain +in chunks\n%s", seed, d)
		}
	}
}

// someLayers returns layers with few names, so that the same names occur often.
func someLayers(rnd *rand.Rand) [][]file {
	layers := make([][]file, 1+rnd.IntN(3))
	for i := range layers {
		for _, d := range []string{"", "a/", "b/", "a/c/"} {
			if d != "" {
				switch rnd.IntN(6) {
				case 0:
					continue
				case 1:
					layers[i] = append(layers[i], regular(d+".wh..wh..opq", ""))
				case 2:
					layers[i] = append(layers[i], regular(path.Dir(d)+"/.wh."+path.Base(d), ""))
					continue
				}
				layers[i] = append(layers[i], dir(d))
			}
			for _, name := range []string{"1", "2", "3", "4"} {
				if f, ok := someFile(rnd, d, name, layers[i]); ok {
					layers[i] = append(layers[i], f)
				}
			}
		}
	}
	return layers
}

func someFile(rnd *rand.Rand, dir, name string, before []file) (file, bool) {
	switch rnd.IntN(8) {
	case 0:
		return regular(dir+".wh."+name, ""), true
	case 1:
		if len(before) > 0 {
			if to := before[rnd.IntN(len(before))]; to.Typeflag == tar.TypeReg && !strings.Contains(to.Name, ".wh.") {
				return link(dir+name, to.Name), true
			}
		}
		return link(dir+name, "a/1"), dir+name != "a/1" // of a lower layer, or of none
	case 2:
		return symlink(dir+name, "x"), true
	case 3, 4:
		return file{}, false
	default:
		return regular(dir+name, fmt.Sprint(rnd.IntN(3))), true
	}
}

// edited changes, removes and adds some files of layers.
func edited(rnd *rand.Rand, layers [][]file) [][]file {
	var result [][]file
	for i, files := range layers {
		var now []file
		for _, f := range files {
			switch n := rnd.IntN(20); {
			case n == 0 && f.Typeflag == tar.TypeReg:
				f.Body += "edited"
			case n == 1:
				f.Mode = 0o700
			case n == 2:
				continue
			}
			now = append(now, f)
		}
		if rnd.IntN(6) == 0 {
			now = append(now, regular(fmt.Sprintf("new%d", i), "new"))
		}
		result = append(result, now)
	}
	if rnd.IntN(5) == 0 {
		result = append(result, []file{regular("a/1", "over it"), regular("b/.wh.2", "")})
	}
	return result
}

// TestImagesFalseParts: chunks may not be what they claim.
func TestImagesFalseParts(t *testing.T) {
	files := []file{regular("one", strings.Repeat("1", 600)), regular("two", "2"), regular("three", "3")}
	changed := []file{regular("one", strings.Repeat("!", 600)), files[1], files[2]}
	whole := func(files ...file) []byte { return tartest.Tar(t, files...) }
	cut := func(content []byte, at ...int) []byte {
		var blob bytes.Buffer
		zw, err := chunk.NewWriter(&blob, 6, 1)
		must(t, err)
		from := 0
		for _, to := range append(at, len(content)) {
			_, err := zw.Write(content[from:to])
			must(t, errors.Join(err, zw.Cut()))
			from = to
		}
		must(t, zw.Close())
		return blob.Bytes()
	}
	ended := append(bytes.Clone(whole(files[0])), whole(files[1:]...)...) // an archive behind the end of one
	tests := []struct {
		name          string
		first, second []byte
		want          []string
	}{
		{"within a content", cut(whole(files...), 512+512), cut(whole(changed...), 512+512), []string{"changed /one content"}},
		{"within a header", cut(whole(files...), 100), cut(whole(changed...), 100), []string{"changed /one content"}},
		{
			"behind the end", cut(ended, 512+1024, 512+1024+1024), cut(whole(changed...), 512+1024),
			[]string{"changed /one content", "added /three", "added /two"},
		},
		{"over the rest", cut(ended, len(ended)-1024), cut(whole(changed...), 512+1024), []string{"changed /one content", "added /three", "added /two"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, _ := appendBlob(t, picture(t), tt.first)
			b, _ := appendBlob(t, picture(t), tt.second)
			if d := cmp.Diff(tt.want, said(compare(t, a, b).Files)); d != "" {
				t.Errorf("-want +got\n%s", d)
			}
		})
	}
	t.Run("damaged", func(t *testing.T) {
		blob := cut(whole(files...), 512+1024)
		a, _ := appendBlob(t, picture(t), blob)
		b, _ := appendBlob(t, picture(t), cut(whole(changed...), 512+1024))
		blob[len(blob)-5] ^= 1
		var wrong *layer.DigestError
		if _, err := Images(t.Context(), a, b, Options{}); !errors.As(err, &wrong) {
			t.Errorf("want a digest error, have %v", err)
		}
	})
}

// TestImagesEndOfPart: the name of the entry that readPart appends is a name like any other.
func TestImagesEndOfPart(t *testing.T) {
	var a, b []file
	for i := range 8 {
		f := regular(fmt.Sprintf("d/%d", i), "x")
		a, b = append(a, f), append(b, f)
	}
	a = append(a, symlink(endName, "d/1"))
	b = append(b, symlink(endName, "d/2"))
	first, reads := chunked(t, 3, a)
	second, _ := chunked(t, 3, b)
	if d := cmp.Diff([]string{"changed /" + endName + " target"}, said(compare(t, first, second).Files)); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
	if *reads == 0 {
		t.Error("nothing was read in parts")
	}
}

// TestScanBounds: no more than maxParts parts are kept.
func TestScanBounds(t *testing.T) {
	var chunks bytes.Buffer
	zw, err := chunk.NewWriter(&chunks, 6, 1)
	must(t, err)
	_, err = io.WriteString(zw, "x")
	must(t, errors.Join(err, zw.Close()))
	s := chunk.NewScanner(&chunks)
	if !s.Scan() {
		t.Fatal(s.Err())
	}
	header := []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff}
	for _, n := range []int{maxParts, maxParts + 1} {
		blob := append(slices.Concat(header, bytes.Repeat(s.Bytes(), n)), 1, 0, 0, 0xff, 0xff)
		blob = binary.LittleEndian.AppendUint32(blob, crc32.ChecksumIEEE(bytes.Repeat([]byte("x"), n)))
		img, _ := appendBlob(t, picture(t), binary.LittleEndian.AppendUint32(blob, uint32(n)))
		o, err := open(img)
		must(t, err)
		parts, err := scan(t.Context(), &o.layers[0])
		if want := map[bool]int{true: n}[n <= maxParts]; len(parts) != want || err != nil {
			t.Errorf("%d parts of %d chunks: %v", len(parts), n, err)
		}
	}
}

// TestImagesPartsInOrder: the last of two entries for a path counts, even if both images have one of them.
func TestImagesPartsInOrder(t *testing.T) {
	good, evil, a, b := regular("sh", "good"), regular("sh", "evil"), regular("x", "a"), regular("x", "b")
	// A path that both layers have in equal parts, which were not read, counts as new if another entry for
	// it differs.
	paths := func(files []File) (list []string) {
		for _, f := range files {
			list = append(list, f.Path.Path)
		}
		return list
	}
	for name, test := range map[string]struct {
		first, second []file
		want          []string
	}{
		"the same parts": {[]file{good, evil}, []file{evil, good}, []string{"/sh"}},
		"one twice":      {[]file{evil, good}, []file{evil, good, evil}, []string{"/sh"}},
		"around another": {[]file{good, a, evil, dir("d")}, []file{evil, dir("d"), good, b}, []string{"/sh", "/x"}},
		"below a link":   {[]file{regular("y", "y"), dir("d"), link("sh", "y"), a, evil, dir("d")}, []file{regular("y", "y"), dir("d"), evil, dir("d"), link("sh", "y"), b}, []string{"/sh", "/x"}},
	} {
		for _, every := range []int{1, 2} {
			first, _ := chunked(t, every, test.first)
			second, _ := chunked(t, every, test.second)
			plainA, plainB := picture(t, test.first), picture(t, test.second)
			want, got := paths(compare(t, plainA, plainB).Files), paths(compare(t, first, second).Files)
			if d := cmp.Diff(want, got); d != "" || !slices.Equal(want, test.want) {
				t.Errorf("%s, %d entries in a chunk: -plain +in chunks\n%s", name, every, d)
			}
		}
	}
}

// TestImagesInHostileParts: two layers that differ are never reported as equal, whatever their entries,
// their order and their chunks.
func TestImagesInHostileParts(t *testing.T) {
	differ := 0
	for seed := range uint64(150) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		var first []file
		for range 2 + rnd.IntN(7) {
			first = append(first, hostileEntry(rnd))
		}
		second := slices.Clone(first)
		for range 1 + rnd.IntN(3) {
			i, j := rnd.IntN(len(second)), rnd.IntN(len(second))
			switch rnd.IntN(4) {
			case 0:
				second[i] = hostileEntry(rnd)
			case 1:
				second = slices.Insert(second, i, hostileEntry(rnd))
			default:
				second[i], second[j] = second[j], second[i]
			}
		}
		if compare(t, picture(t, first), picture(t, second)).Same {
			continue
		}
		differ++
		for every := 1; every < 4; every++ {
			if compare(t, unmarked(t, every, first), unmarked(t, every, second)).Same {
				t.Fatalf("seed %d, %d entries in a chunk: they are the same\n%v\n%v", seed, every, first, second)
			}
		}
	}
	if differ < 50 {
		t.Errorf("only %d layers differ", differ)
	}
}

// TestImagesEntryTwice: a link in a part that is not read may mean an entry that was replaced since.
func TestImagesEntryTwice(t *testing.T) {
	x, a, later, shared := regular("x", ""), regular("a", ""), regular("sh", "later"), []file{link("l", "sh"), dir("d")}
	first := slices.Concat([]file{regular("sh", "good"), x}, shared, []file{later, a})
	second := slices.Concat([]file{regular("sh", "evil"), x}, shared, []file{a, later})
	if d := cmp.Diff([]string{"changed /l content"}, said(compare(t, unmarked(t, 2, first), unmarked(t, 2, second)).Files)); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}

// unmarked returns an image with a layer whose chunks have that many entries each and never the Apart
// flag.
func unmarked(t testing.TB, every int, files []file) v1.Image {
	t.Helper()
	var blob bytes.Buffer
	zw, err := chunk.NewWriter(&blob, 1, 1)
	must(t, err)
	for files := range slices.Chunk(files, every) {
		content := tartest.Tar(t, files...)
		_, err := zw.Write(content[:len(content)-1024]) // without the mark of the end
		must(t, errors.Join(err, zw.Cut()))
	}
	_, err = zw.Write(make([]byte, 1024))
	must(t, errors.Join(err, zw.Close()))
	img, _ := appendBlob(t, picture(t), blob.Bytes())
	return img
}

func hostileEntry(rnd *rand.Rand) file {
	name := string('a' + rune(rnd.IntN(4)))
	switch rnd.IntN(8) {
	case 0:
		return link(name, string('a'+rune(rnd.IntN(4))))
	case 1:
		return symlink(name, string('a'+rune(rnd.IntN(2))))
	case 2:
		return dir(name)
	case 3:
		return regular(".wh."+name, "")
	case 4:
		return regular(name+"/b", "")
	}
	return regular(name, string('1'+rune(rnd.IntN(2))))
}
