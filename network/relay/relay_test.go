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

// images are the digests of the digests of the two images. Another one takes every RUN with locked downloads out of everybody's
// cache: change these only together with a change of the relay that is worth it.
var images = map[string]digest.Digest{
	"386":     "sha256:e3c924637072b444cfeac5bfbafb2d6f4a2079b73716b3a8767185d5ee7b05ff",
	"amd64":   "sha256:b2f1083efbc92c031450083e83289aaddece72c1f3db08ef32d40305ae237b28",
	"arm":     "sha256:b9868f806fdac05acb060f985a88bc2dffb23a8bea3b678e4d0b71cf636bc342",
	"arm64":   "sha256:ff88147c55ba6751d39510aa73f27e09cd0231e1ace8c377e0292158d477bafe",
	"ppc64le": "sha256:5388ce1786fde2f02783a42a864c9a61e2cd251ae7f9925481f3fe0931bb6855",
	"riscv64": "sha256:d724c44a97d0051fdc4474dcb8bbc3c030ec75d92effd25fb5fd4bcce798b1bf",
	"s390x":   "sha256:dbe33cfbae2e707f7b34e581c286f55f7dd511114ed10ecbb1f184f192e21234",
}

func TestFrozen(t *testing.T) {
	for arch, want := range images {
		img, ok := New(arch)
		if !ok {
			t.Errorf("%s: no image", arch)
			continue
		}
		if both := digest.FromString(string(img.Manifest) + string(Resolver(arch).Manifest)); both != want {
			t.Errorf("%s: the images are %s, and were %s", arch, both, want)
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
		if committed, _ := binary(arch); !bytes.Equal(compiled, committed) {
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
	modes, text := map[string]int64{}, ""
	for _, image := range []*Image{img, Resolver("amd64")} {
		for _, data := range image.Blobs {
			for r := tar.NewReader(bytes.NewReader(data)); ; {
				h, err := r.Next()
				if err != nil {
					break // the end, or no layer
				}
				modes[h.Name] = h.Mode
				if content, err := io.ReadAll(r); err != nil {
					t.Fatal(err)
				} else if len(content) < 1000 {
					text += string(content)
				}
			}
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
	for _, want := range []string{`const address = "` + address + `"`, `var ports = []int{3128, 80, 443}`, `"` + NamePrefix + `"+name+"\n"`} {
		if !strings.Contains(string(source)+string(dns), want) {
			t.Errorf("the program has no %s", want)
		}
	}
}
