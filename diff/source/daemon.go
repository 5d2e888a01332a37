package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
)

// daemon saves an image of a Docker Engine to a temporary file and opens that.
func (o Options) daemon(ctx context.Context, name string, img *Image) error {
	if o.Docker == nil {
		return errors.New("there is no Docker Engine")
	}
	body, err := o.Docker(ctx, name)
	if err != nil {
		return fmt.Errorf("asking the Docker Engine: %w", err)
	}
	defer body.Close()
	f, err := o.spool(body, img)
	if err != nil {
		return fmt.Errorf("reading from the Docker Engine: %w", err)
	}
	return o.fromTar(f, "", img)
}

// spool copies r to a temporary file, which disappears when img is closed.
func (o Options) spool(r io.Reader, img *Image) (*os.File, error) {
	f, err := os.CreateTemp(o.TempDir, "kedge-image-*")
	if err != nil {
		return nil, err
	}
	img.close = append(img.close, func() error { return errors.Join(f.Close(), os.Remove(f.Name())) })
	if _, err := io.Copy(f, r); err != nil {
		return nil, err
	}
	return f, nil
}
