package docker

import (
	"net"
	"net/http"
	"path/filepath"
	"testing"
	"time"
)

// Closing a connection closes its connection to the Engine.
func TestConnectionCloses(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "docker.sock"))
	if err != nil {
		t.Fatal(err)
	}
	states := make(chan http.ConnState, 100)
	engine := &http.Server{
		Handler:   http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Api-Version", "1.50") }),
		ConnState: func(_ net.Conn, s http.ConnState) { states <- s },
	}
	go engine.Serve(l) //nolint:errcheck // that it is closed
	defer engine.Close()
	c := New(map[string]string{"HOME": t.TempDir(), "DOCKER_HOST": "unix://" + l.Addr().String()})
	b, err := c.Builder("default")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := c.Connect(t.Context(), b, Share{Node: b.Nodes[0]})
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	open := 0
	for {
		select {
		case s := <-states:
			switch s {
			case http.StateNew:
				open++
			case http.StateClosed:
				if open--; open == 0 {
					return
				}
			}
		case <-time.After(time.Minute):
			t.Fatalf("%d connections are open", open)
		}
	}
}
