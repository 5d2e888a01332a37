package kedge_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"time"

	"github.com/kedge-build/kedge"
	"github.com/kedge-build/kedge/builder"
	"github.com/kedge-build/kedge/store"
)

// verifyFolder builds a folder twice on the BuildKit daemon at address, keeps the image in the store in
// dir, and prints the image's digest or the instructions whose results differ.
func verifyFolder(ctx context.Context, w io.Writer, address, dir, folder string) error {
	b, err := builder.Open(ctx, builder.Options{Address: address})
	if err != nil {
		return err
	}
	defer b.Close()
	images, err := store.Open(ctx, dir)
	if err != nil {
		return err
	}
	defer images.Close()

	env := kedge.Env{Builder: b, Store: images, Now: time.Now, Environ: os.Environ()}
	res, err := kedge.Verify(ctx, env, kedge.Options{Context: folder})
	if err != nil {
		return err
	}
	if res.Verdict.Reproducible {
		fmt.Fprintln(w, "reproducible:", res.Image.Descriptor.Digest)
	}
	for _, platform := range res.Verdict.Platforms {
		for _, layer := range platform.Layers {
			fmt.Fprintf(w, "%s:%d: %s differs\n", res.Dockerfile, layer.Line, layer.Instruction)
		}
	}
	// Last, so that a failure leaves the lockfile as it was.
	return res.WriteLock(ctx)
}

// A program that builds the current folder twice and says whether both builds made the same image.
func Example() {
	if err := verifyFolder(context.Background(), os.Stdout, "unix:///run/buildkit/buildkitd.sock", "/var/lib/app/images", "."); err != nil {
		log.Fatal(err)
	}
}
