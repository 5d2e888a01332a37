package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
)

// daemon has a Docker Engine write an image to a temporary file, and opens that.
func (o Options) daemon(ctx context.Context, name string, img *Image) error {
	host := o.DockerHost
	if host == "" {
		host = "unix:///var/run/docker.sock"
	}
	network, address, ok := strings.Cut(host, "://")
	if !ok || network != "unix" && network != "tcp" {
		return fmt.Errorf("the Docker Engine's address %q is not unix://PATH or tcp://HOST:PORT", host)
	}
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, (&url.URL{Scheme: "http", Host: "docker", Path: "/images/" + name + "/get"}).String(), nil)
	if err != nil {
		return err
	}
	res, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return fmt.Errorf("asking the Docker Engine at %q: %w", host, err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		message, _ := io.ReadAll(io.LimitReader(res.Body, 4096))
		return fmt.Errorf("the Docker Engine at %q answers %s: %s", host, res.Status, strings.TrimSpace(string(message)))
	}
	f, err := o.spool(res.Body, img)
	if err != nil {
		return fmt.Errorf("reading from the Docker Engine at %q: %w", host, err)
	}
	return o.fromTar(f, "", img)
}

// spool copies r to a temporary file, which goes when img is closed.
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
