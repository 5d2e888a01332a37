package relay

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// images are the digests of the images. Another one takes every RUN with locked downloads out of everybody's
// cache: change these only together with a change of the relay that is worth it.
var images = map[string]digest.Digest{
	"386":     "sha256:1245b5c247411f437eee534e89a1e8ede51345aa5abb989fa0983e9fe398d027",
	"amd64":   "sha256:7460b812f14afc4d3749c998e60574e6518f44d2ac8e7546a11b683d6c4f641b",
	"arm":     "sha256:e27b82c57c40e55d6bee6338394664e801be68604eb223c9701935a7e17ca1a6",
	"arm64":   "sha256:be5ccc3060f5c045f21ac013806ca0ce6b1b5151367192b43cc438bd578b434e",
	"ppc64le": "sha256:7daf4ba8aa145cc73a02a9494f86562bcdb8c9ac98fb00126d9d6cf151055e94",
	"riscv64": "sha256:a6d5a08e568423ecb77fea3926df3a38e9f40149d9dc89564d312a9ec5966ecc",
	"s390x":   "sha256:c592cd332e831fb34ae7d7fc4e6387611179adedfa43e0647fd644a781930111",
}

func TestFrozen(t *testing.T) {
	for arch, want := range images {
		img, ok := New(arch)
		if !ok {
			t.Errorf("%s: no image", arch)
			continue
		}
		if img.Manifest != want {
			t.Errorf("%s: the image is %s, and was %s", arch, img.Manifest, want)
		}
		for dgst, data := range img.Blobs {
			if digest.FromBytes(data) != dgst {
				t.Errorf("%s: a blob has another digest than its name", arch)
			}
		}
	}
	packed, err := filepath.Glob("bin/*.gz")
	if err != nil || len(packed) != len(images) {
		t.Errorf("%d programs and %d digests, %v", len(packed), len(images), err)
	}
}

// TestSource compiles the program and compares the bytes with the committed ones.
func TestSource(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles")
	}
	makefile, err := os.ReadFile("../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	toolchain := regexp.MustCompile(`(?m)^RELAYGO := (\S+)$`).FindSubmatch(makefile)
	if toolchain == nil {
		t.Fatal("the Makefile names no toolchain")
	}
	if string(toolchain[1]) != runtime.Version() {
		t.Skipf("the toolchain is %s, and the relay is compiled with %s", runtime.Version(), toolchain[1])
	}
	for _, arch := range []string{"amd64", "arm64"} {
		out := filepath.Join(t.TempDir(), arch)
		cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -buildid=", "-o", out, "./program")
		cmd.Env = append(os.Environ(), "GOTOOLCHAIN=local", "GOFLAGS=", "GOEXPERIMENT=", "GOOS=linux", "GOARCH="+arch, "GOAMD64=v1", "GOARM64=v8.0", "CGO_ENABLED=0")
		if text, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		compiled, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		if committed, _ := Binary(arch); !bytes.Equal(compiled, committed) {
			t.Errorf("%s: the committed program is not that of the source: make relay", arch)
		}
	}
}

func TestNoImage(t *testing.T) {
	for _, arch := range []string{"pdp11", "", "../bin/amd64"} {
		if _, ok := New(arch); ok {
			t.Errorf("there is an image for %q", arch)
		}
	}
}

func TestFiles(t *testing.T) {
	img, ok := New("amd64")
	if !ok {
		t.Fatal("no image")
	}
	var layer []byte
	for _, data := range img.Blobs {
		if len(data) > len(layer) {
			layer = data
		}
	}
	modes, text := map[string]int64{}, ""
	for r := tar.NewReader(bytes.NewReader(layer)); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		modes[h.Name] = h.Mode
		if h.Size < 1000 {
			data, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			text += string(data)
		}
	}
	if modes["relay"] != 0o4755 || modes["sock"] != 0o644 || len(modes) != 7 {
		t.Errorf("files: %v", modes)
	}
	want := `Acquire::https::CAInfo "/dev/.kedge/ca.pem";` + "\nca_certificate = /dev/.kedge/ca.pem\nnameserver 127.107.101.100\n"
	if text != want {
		t.Errorf("got %q, want %q", text, want)
	}
}

// TestConstants compares what the program and this package both have to know.
func TestConstants(t *testing.T) {
	source, err := os.ReadFile("program/main.go")
	if err != nil {
		t.Fatal(err)
	}
	dns, err := os.ReadFile("program/dns.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`const address = "` + Address + `"`, `var ports = []int{3128, 80, 443}`, `"` + NamePrefix + `"+name+"\n"`} {
		if !strings.Contains(string(source)+string(dns), want) {
			t.Errorf("the program has no %s", want)
		}
	}
}
