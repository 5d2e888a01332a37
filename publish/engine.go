package publish

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/kedge-build/kedge/store"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// An Engine is a Docker Engine.
type Engine interface {
	Name() string // its address, for messages
	// Load sends a tar archive to POST /images/load and returns the body of the answer.
	Load(ctx context.Context, archive io.Reader) (io.ReadCloser, error)
	// ID returns the ID of the image with a name or ID, and "" if there is none.
	ID(ctx context.Context, name string) (string, error)
	// TakesIndex reports whether an image may be for several platforms.
	TakesIndex(ctx context.Context) (bool, error)
	Close() error
}

// A PlatformsError says that an Engine holds only images for one platform.
type PlatformsError struct{ Engine string }

func (e *PlatformsError) Error() string {
	return fmt.Sprintf("the Docker Engine at %q cannot store an image for several platforms", e.Engine)
}

// connect finds the Engine, and checks that it can hold the image.
func connect(ctx context.Context, w Wanted, env Env) (Engine, error) {
	engine, err := env.Engine(ctx)
	if err != nil || w.Platforms <= 1 {
		return engine, err
	}
	takes, err := engine.TakesIndex(ctx)
	if err == nil && !takes {
		err = &PlatformsError{Engine: engine.Name()}
	}
	if err != nil {
		return nil, errors.Join(err, engine.Close())
	}
	return engine, nil
}

// load loads the image into the Engine, unless it is there under all names.
func (d *Delivery) load(ctx context.Context, st *store.Store, img store.Image, names []string) ([]Step, error) {
	if d.has(ctx, img, names) {
		return []Step{{Present, d.engine.Name()}}, nil
	}
	loaded, err := sendImage(ctx, st, img.Top(), names, d.engine)
	if err != nil {
		return nil, fmt.Errorf("loading into Docker at %q: %w", d.engine.Name(), err)
	}
	return steps(Loaded, loaded), nil
}

// ids returns what an Engine may call an image: the digest of its manifest or index, or that of its config.
func ids(img store.Image) []digest.Digest {
	ids := []digest.Digest{img.Top().Digest}
	if len(img.Manifests) == 1 {
		ids = append(ids, img.Manifests[0].Config)
	}
	return ids
}

// id returns what docker run calls the image.
func (d *Delivery) id(ctx context.Context, img store.Image) digest.Digest {
	all := ids(img)
	for _, id := range all {
		if d.engine != nil && d.calls(ctx, id.String(), all) {
			return id
		}
	}
	return all[0]
}

// has reports whether the Engine has the image under all names, or at all if there are none.
func (d *Delivery) has(ctx context.Context, img store.Image, names []string) bool {
	all := ids(img)
	if len(names) == 0 {
		return slices.ContainsFunc(all, func(id digest.Digest) bool { return d.calls(ctx, id.String(), all) })
	}
	return !slices.ContainsFunc(names, func(name string) bool { return !d.calls(ctx, name, all) })
}

// calls reports whether the Engine calls an image with one of ids by name.
func (d *Delivery) calls(ctx context.Context, name string, ids []digest.Digest) bool {
	id, err := d.engine.ID(ctx, name)
	return err == nil && slices.Contains(ids, digest.Digest(id))
}

// sendImage loads an image into an Engine and returns what the Engine says it loaded: names, or the image ID if
// there are none. An error that the Engine reports is returned in its words.
func sendImage(ctx context.Context, st *store.Store, desc ocispec.Descriptor, names []string, engine Engine) ([]string, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	pr, pw := io.Pipe()
	exported := make(chan error, 1)
	go func() {
		err := writeArchive(ctx, st, pw, desc, names, Docker)
		pw.CloseWithError(err)
		exported <- err
	}()
	loaded, err := sendArchive(ctx, pr, engine)
	pr.Close()
	// If the export failed, it is why the Engine did. A closed pipe is no failure: the Engine stops reading
	// when it has seen enough.
	if exportErr := <-exported; exportErr != nil && !errors.Is(exportErr, io.ErrClosedPipe) {
		err = exportErr
	}
	if err != nil {
		return nil, fmt.Errorf("load image %s into the Docker Engine: %w", desc.Digest, err)
	}
	return loaded, nil
}

func sendArchive(ctx context.Context, archive io.Reader, engine Engine) ([]string, error) {
	body, err := engine.Load(ctx, archive)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	return readLoaded(body)
}

// readLoaded returns the names and IDs that an Engine's answer to POST /images/load, a stream of JSON
// messages, says it loaded. The first error in the stream is the error.
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
