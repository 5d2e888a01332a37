package publish

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/kedge-build/kedge/store"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Load gives an image to a Docker Engine and returns what the Engine says it loaded: names, or the
// image ID if names is empty. An error that the Engine reports is returned as it says it; one that
// keeps no containerd image store cannot take an image for several platforms.
//
// The function load sends a tar archive to the Engine's POST /images/load and returns the body of
// the answer. ImageLoad of a github.com/moby/moby/client.Client does that.
func Load(ctx context.Context, st *store.Store, desc ocispec.Descriptor, names []string, load func(context.Context, io.Reader) (io.ReadCloser, error)) ([]string, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	pr, pw := io.Pipe()
	exported := make(chan error, 1)
	go func() {
		err := Export(ctx, st, pw, desc, names, Docker)
		pw.CloseWithError(err)
		exported <- err
	}()
	loaded, err := sendArchive(ctx, pr, load)
	pr.Close()
	// An export that failed is the cause of what the Engine then says. One that only found nobody
	// reading is not: the Engine stops when it has seen enough.
	if exportErr := <-exported; exportErr != nil && !errors.Is(exportErr, io.ErrClosedPipe) {
		err = exportErr
	}
	if err != nil {
		return nil, fmt.Errorf("load image %s into the Docker Engine: %w", desc.Digest, err)
	}
	return loaded, nil
}

func sendArchive(ctx context.Context, archive io.Reader, load func(context.Context, io.Reader) (io.ReadCloser, error)) ([]string, error) {
	body, err := load(ctx, archive)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	return readLoaded(body)
}

// readLoaded reads the JSON messages with which an Engine answers POST /images/load, and returns
// the names and IDs of the images that it loaded. The first error in them is the error.
// See https://docs.docker.com/reference/api/engine/ and moby's daemon/internal/image/tarexport.
func readLoaded(r io.Reader) ([]string, error) {
	var loaded []string
	dec := json.NewDecoder(r)
	for {
		var msg struct {
			Stream string `json:"stream"`
			Error  string `json:"error"`
			Detail struct {
				Message string `json:"message"`
			} `json:"errorDetail"`
		}
		if err := dec.Decode(&msg); errors.Is(err, io.EOF) {
			return loaded, nil
		} else if err != nil {
			return nil, fmt.Errorf("read the answer: %w", err)
		}
		if msg.Detail.Message != "" {
			return nil, errors.New(msg.Detail.Message)
		}
		if msg.Error != "" {
			return nil, errors.New(msg.Error)
		}
		for line := range strings.Lines(msg.Stream) {
			for _, prefix := range []string{"Loaded image: ", "Loaded image ID: "} {
				if name, ok := strings.CutPrefix(strings.TrimSpace(line), prefix); ok {
					loaded = append(loaded, name)
				}
			}
		}
	}
}
