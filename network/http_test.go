package network

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// abort breaks the connection of an origin.
func abort() { panic(http.ErrAbortHandler) }

// Each case asks the same of a recorder and of a replayer without an origin, and gets the same.
func TestAnswers(t *testing.T) {
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	io.WriteString(z, "plain text")
	z.Close()
	body := strings.Repeat("0123456789", 1000)
	modified := "Mon, 02 Jan 2006 15:04:05 GMT"

	for _, test := range []struct {
		name    string
		handler http.HandlerFunc
		ask     func(b *bed, base string)
		asked   int // of the origin; 0: once
	}{
		{"a range is cut from the whole", func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Range") != "" {
				w.WriteHeader(206)
			}
			io.WriteString(w, body)
		}, func(b *bed, base string) {
			b.want(b.get(step1, base+"/f", "Range", "bytes=10-14"), 206, "01234")
			b.want(b.get(step1, base+"/f", "Range", "bytes=-3"), 206, "789")
			b.want(b.get(step1, base+"/f"), 200, body)
		}, 0},
		{"a range of a chunked answer", func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, body[:5000])
			w.(http.Flusher).Flush()
			io.WriteString(w, body[5000:])
		}, func(b *bed, base string) {
			b.want(b.get(step1, base+"/f", "Range", "bytes=9995-"), 206, "56789")
			b.want(b.get(step1, base+"/f"), 200, body)
		}, 0},
		{"several ranges are the same bytes each time", func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, body)
		}, func() func(b *bed, base string) {
			first := map[string]answer{}
			return func(b *bed, base string) {
				for range 2 {
					got := b.get(step1, base+"/f", "Range", "bytes=0-1,5-6")
					_, params, err := mime.ParseMediaType(got.header.Get("Content-Type"))
					if err != nil || got.err != nil || got.status != 206 {
						b.t.Fatalf("got %+v, %v", got, err)
					}
					parts := multipart.NewReader(strings.NewReader(got.body), params["boundary"])
					for _, want := range []string{"01", "56"} {
						part, err := parts.NextPart()
						if err != nil {
							b.t.Fatal(err)
						}
						if text, err := io.ReadAll(part); err != nil || string(text) != want {
							b.t.Errorf("part %q, %v", text, err)
						}
					}
					if old, ok := first[base]; ok && (old.body != got.body || old.header.Get("Content-Length") != got.header.Get("Content-Length")) {
						b.t.Errorf("got %q, and then %q", old.body, got.body)
					}
					first[base] = got
				}
			}
		}(), 0},
		{"a condition is decided here", func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("If-None-Match") != "" || r.Header.Get("If-Modified-Since") != "" {
				w.WriteHeader(304)
				return
			}
			w.Header().Set("Etag", `"v1"`)
			w.Header().Set("Last-Modified", modified)
			io.WriteString(w, body)
		}, func(b *bed, base string) {
			b.want(b.get(step1, base+"/f", "If-None-Match", `"v1"`), 304, "")
			b.want(b.get(step1, base+"/f", "If-None-Match", `"v0"`), 200, body)
			b.want(b.get(step1, base+"/f", "If-Modified-Since", modified), 304, "")
			got := b.get(step1, base+"/f")
			b.want(got, 200, body)
			if got.header.Get("Etag") != `"v1"` || got.header.Get("Last-Modified") != modified {
				b.t.Errorf("headers %v", got.header)
			}
		}, 0},
		{"404", func(w http.ResponseWriter, r *http.Request) {
			http.Error(w, "gone", http.StatusNotFound)
		}, func(b *bed, base string) {
			b.want(b.get(step1, base+"/f"), 404, "gone\n")
			b.want(b.get(step1, base+"/f"), 404, "gone\n")
			b.want(b.do(step1, "HEAD", base+"/f"), 404, "")
		}, 0},
		{"204", func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(204)
		}, func(b *bed, base string) { b.want(b.get(step1, base+"/f"), 204, "") }, 0},
		{"a redirect", func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/f" {
				http.Redirect(w, r, "/g?x=1&token=hunter2", http.StatusFound)
				return
			}
			if r.URL.Query().Get("token") != "hunter2" {
				http.Error(w, "who are you", http.StatusForbidden)
				return
			}
			io.WriteString(w, "moved")
		}, func(b *bed, base string) {
			got := b.get(step1, base+"/f")
			if got.status != 302 || got.header.Get("Location") != "/g?x=1" {
				b.t.Errorf("got %+v", got)
			}
			b.want(b.get(step1, base+"/g?x=1"), 200, "moved")
		}, 2},
		{"queries and escapes stay as they are", func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, r.RequestURI)
		}, func(b *bed, base string) {
			for _, path := range []string{"/a%2Fb?q=1&q=2&&z", "/%7Ex/?", "/?a=%20+b", "//double//"} {
				b.want(b.get(step1, base+path), 200, path)
			}
		}, 4},
		{"identity is asked for", func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Accept-Encoding") != "identity" {
				w.Header().Set("Content-Encoding", "gzip")
				io.Copy(w, bytes.NewReader(zipped.Bytes()))
				return
			}
			io.WriteString(w, "plain text")
		}, func(b *bed, base string) {
			b.want(b.get(step1, base+"/f", "Accept-Encoding", "gzip, deflate"), 200, "plain text")
			b.want(b.get(step1, base+"/f"), 200, "plain text")
		}, 0},
		{"an encoding that the server insists on", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			io.Copy(w, bytes.NewReader(zipped.Bytes()))
		}, func(b *bed, base string) {
			for range 2 {
				got := b.get(step1, base+"/f", "Accept-Encoding", "gzip")
				b.want(got, 200, zipped.String())
				if got.header.Get("Content-Encoding") != "gzip" {
					b.t.Errorf("headers %v", got.header)
				}
			}
		}, 0},
		{"Vary has an answer for each form", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Vary", "Accept-Encoding, accept, Cookie")
			io.WriteString(w, r.Header.Get("Accept"))
		}, func(b *bed, base string) {
			for range 2 {
				b.want(b.get(step1, base+"/f", "Accept", "text/html"), 200, "text/html")
				b.want(b.get(step1, base+"/f", "Accept", "application/json"), 200, "application/json")
				b.want(b.get(step1, base+"/f"), 200, "")
			}
		}, 3},
		{"HEAD before GET", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "10000")
			if r.Method == "GET" {
				io.WriteString(w, body)
			}
		}, func(b *bed, base string) {
			got := b.do(step1, "HEAD", base+"/f")
			b.want(got, 200, "")
			if got.header.Get("Content-Length") != "10000" {
				b.t.Errorf("headers %v", got.header)
			}
			b.want(b.get(step1, base+"/f"), 200, body)
			b.want(b.do(step1, "HEAD", base+"/f"), 200, "")
		}, 2},
		{"HEAD of a length that nobody knows", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Transfer-Encoding", "identity")
		}, func(b *bed, base string) { b.want(b.do(step1, "HEAD", base+"/f"), 200, "") }, 0},
		{"a file that changes has its first answer", func() http.HandlerFunc {
			var n [2]atomic.Int32
			return func(w http.ResponseWriter, r *http.Request) {
				i := 0
				if r.TLS != nil {
					i = 1
				}
				fmt.Fprint(w, "version ", n[i].Add(1))
			}
		}(), func(b *bed, base string) {
			b.want(b.get(step1, base+"/f"), 200, "version 1")
			b.want(b.get(step2, base+"/f"), 200, "version 1")
		}, 0},
		{"a header without a type", func(w http.ResponseWriter, r *http.Request) {
			w.Header()["Content-Type"] = nil
			io.WriteString(w, "<html>")
		}, func(b *bed, base string) {
			got := b.get(step1, base+"/f")
			b.want(got, 200, "<html>")
			if got.header["Content-Type"] != nil || got.header["Date"] != nil {
				b.t.Errorf("headers %v", got.header)
			}
		}, 0},
		{"an offer of HTTP/2 that no server has to take", func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, r.Header.Get("Upgrade")+r.Header.Get("Http2-Settings")+"HTTP/1.1")
		}, func(b *bed, base string) {
			b.want(b.get(step1, base+"/f", "Connection", "Upgrade, HTTP2-Settings", "Upgrade", "h2c", "HTTP2-Settings", "AAMAAABk"), 200, "HTTP/1.1")
		}, 0},
		{"Vary by program, whatever its kernel is", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Vary", "Accept-Encoding,User-Agent")
			io.WriteString(w, r.UserAgent()[:3])
		}, func() func(b *bed, base string) {
			kernel := 6
			return func(b *bed, base string) {
				for range 2 { // the second time on another machine
					b.want(b.get(step1, base+"/f", "User-Agent", fmt.Sprintf(`pip/23.0.1 {"system":{"release":"%d.1.0"}}`, kernel)), 200, "pip")
					kernel++
				}
				b.want(b.get(step1, base+"/f", "User-Agent", "curl/8.14.1"), 200, "cur")
			}
		}(), 2},
		{"headers of a hub of models", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Repo-Commit", "0123")
			w.Header().Set("X-Linked-Etag", `"x"`)
			w.Header().Set("X-Linked-Size", "100")
			w.Header().Set("Location", "https://cdn.example/x")
			w.WriteHeader(302)
		}, func(b *bed, base string) {
			got := b.do(step1, "HEAD", base+"/f")
			for _, name := range []string{"X-Repo-Commit", "X-Linked-Etag", "X-Linked-Size"} {
				if got.header.Get(name) == "" {
					b.t.Errorf("no %s in %v", name, got.header)
				}
			}
		}, 0},
		{"a long redirect, not in ASCII", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "/caf\xe9 "+strings.Repeat("x", 8000)+"?token=hunter2&q=1")
			w.WriteHeader(302)
		}, func(b *bed, base string) {
			if got := b.get(step1, base+"/f"); got.header.Get("Location") != "/caf%E9%20"+strings.Repeat("x", 8000)+"?q=1" {
				b.t.Errorf("got %+v", got)
			}
		}, 0},
		{"a status of the server's own", func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(999)
			io.WriteString(w, "go away")
		}, func(b *bed, base string) { b.want(b.get(step1, base+"/f"), 999, "go away") }, 0},
		{"an empty body", func(w http.ResponseWriter, r *http.Request) {}, func(b *bed, base string) {
			b.want(b.get(step1, base+"/f"), 200, "")
		}, 0},
	} {
		for _, secure := range []bool{false, true} {
			t.Run(fmt.Sprint(test.name, ", https ", secure), func(t *testing.T) {
				var asked atomic.Int32
				b := newBed(t, func(w http.ResponseWriter, r *http.Request) { asked.Add(1); test.handler(w, r) })
				base := b.origin.URL
				if secure {
					base = b.secure.URL
				}
				test.ask(b.recording(), base)
				b.stop()
				if n := int(asked.Load()); n != max(test.asked, 1) {
					t.Errorf("the origin was asked %d times, want %d", n, max(test.asked, 1))
				}
				b.origin.Close()
				b.secure.Close()
				test.ask(b.replaying(), base)
				if errs := b.failed(); len(errs) > 0 {
					t.Error(errs)
				}
				if text := string(b.record.Format()); strings.Contains(text, "hunter2") {
					t.Errorf("a credential:\n%s", text)
				}
			})
		}
	}
}

// Answers that may pass are not the last word, unless none follows.
func TestPassingAnswers(t *testing.T) {
	var n atomic.Int32
	b := newBed(t, func(w http.ResponseWriter, r *http.Request) {
		first := n.Add(1) == 1
		switch {
		case r.URL.Path == "/500" && first:
			http.Error(w, "later", http.StatusInternalServerError)
		case r.URL.Path == "/503":
			http.Error(w, "closed", http.StatusServiceUnavailable)
		case r.URL.Path == "/cut" && first:
			w.Header().Set("Content-Length", "100")
			io.WriteString(w, "begin")
			w.(http.Flusher).Flush()
			abort()
		case r.URL.Path == "/auth" && r.Header.Get("Authorization") == "":
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			http.Error(w, "who", http.StatusUnauthorized)
		default:
			io.WriteString(w, "good")
		}
	})
	b.recording()
	b.want(b.get(step1, b.origin.URL+"/500"), 500, "later\n")
	b.want(b.get(step1, b.origin.URL+"/500"), 200, "good")
	b.want(b.get(step1, b.origin.URL+"/503"), 503, "closed\n")
	n.Store(0)
	if got := b.get(step1, b.origin.URL+"/cut"); got.err == nil {
		t.Errorf("a cut body is whole: %+v", got)
	}
	b.want(b.get(step1, b.origin.URL+"/cut"), 200, "good")
	if got := b.get(step1, b.origin.URL+"/auth"); got.status != 401 || got.header.Get("Www-Authenticate") == "" {
		t.Errorf("got %+v", got)
	}
	b.want(b.get(step1, strings.Replace(b.origin.URL, "http://", "http://me:hunter2@", 1)+"/auth"), 200, "good")
	b.stop()
	b.origin.Close()
	b.replaying()
	b.want(b.get(step1, b.origin.URL+"/500"), 200, "good")
	b.want(b.get(step1, b.origin.URL+"/503"), 503, "closed\n")
	b.want(b.get(step1, b.origin.URL+"/cut"), 200, "good")
	b.want(b.get(step1, b.origin.URL+"/auth"), 200, "good")
	if text := string(b.record.Format()); strings.Contains(text, "hunter2") || strings.Contains(text, "me:") || strings.Contains(text, "bWU6") {
		t.Errorf("a credential:\n%s", text)
	}
}

// A redirect to the same URL is not its answer: the next request has a cookie, or the signature that the record lacks.
func TestRedirectToItself(t *testing.T) {
	b := newBed(t, func(w http.ResponseWriter, r *http.Request) {
		cookie, _ := r.Cookie("seen")
		switch {
		case r.URL.Path == "/cookie" && cookie == nil:
			http.SetCookie(w, &http.Cookie{Name: "seen", Value: "hunter2"})
			http.Redirect(w, r, "/cookie", http.StatusFound)
		case r.URL.Path == "/signed" && r.URL.Query().Get("sig") != "hunter2":
			http.Redirect(w, r, "/signed?sig=hunter2", http.StatusTemporaryRedirect)
		case r.URL.Path == "/loop":
			http.Redirect(w, r, "/loop", http.StatusFound)
		default:
			io.WriteString(w, "there")
		}
	}).recording()
	got := b.get(step1, b.origin.URL+"/cookie")
	if got.status != 302 {
		t.Errorf("got %+v", got)
	}
	b.want(b.get(step1, b.origin.URL+"/cookie", "Cookie", "seen=hunter2"), 200, "there")
	if got := b.get(step1, b.origin.URL+"/signed"); got.status != 307 || got.header.Get("Location") != "/signed" {
		t.Errorf("got %+v", got)
	}
	b.want(b.get(step1, b.origin.URL+"/signed"), 200, "there")
	for range 3 {
		if got := b.get(step1, b.origin.URL+"/loop"); got.status != 302 {
			t.Errorf("got %+v", got)
		}
	}
	b.stop()
	b.origin.Close()
	b.replaying()
	b.want(b.get(step1, b.origin.URL+"/cookie"), 200, "there")
	b.want(b.get(step1, b.origin.URL+"/signed"), 200, "there")
	if got := b.get(step1, b.origin.URL+"/loop"); got.status != 302 || len(b.failed()) > 0 {
		t.Errorf("got %+v, %v", got, b.failed())
	}
	if text := string(b.record.Format()); strings.Contains(text, "hunter2") {
		t.Errorf("a credential:\n%s", text)
	}
}

// rawServer answers each connection with text, after it has read a request.
func rawServer(t *testing.T, text string, after func(net.Conn)) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				if _, err := c.Read(make([]byte, 4096)); err != nil {
					return
				}
				io.WriteString(c, text)
				if after != nil {
					after(c)
				}
			}()
		}
	}()
	return "http://" + l.Addr().String()
}

// A body that is not whole breaks the connection of the step, in whatever way it was cut, and when it is
// replayed.
func TestBrokenAnswers(t *testing.T) {
	forever := func(c net.Conn) {
		for {
			if _, err := c.Write(make([]byte, 32<<10)); err != nil {
				return
			}
		}
	}
	for name, test := range map[string]struct {
		text  string
		after func(net.Conn)
		want  string // of the failure that ends the build, or "": it is a warning
	}{
		"too short":          {"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort", nil, ""},
		"chunks without end": {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", nil, ""},
		"no answer":          {"", nil, ""},
		"not HTTP":           {"SSH-2.0-OpenSSH\r\n", nil, ""},
		"header bomb":        {"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", maxResponseHeader+5000) + "\r\n\r\n", nil, ""},
		"many headers":       {"HTTP/1.1 200 OK\r\n" + strings.Repeat("X: y\r\n", 100_000) + "\r\n", nil, ""},
		"silence":            {"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort", func(c net.Conn) { time.Sleep(time.Minute) }, ""},
		"no header in time":  {"", func(c net.Conn) { time.Sleep(time.Minute) }, ""},
		"endless":            {"HTTP/1.1 200 OK\r\n\r\n", forever, "more than 1048576 bytes of one download"},
		"endless, announced": {"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", forever, "more than 1048576 bytes of one download"},
		"bad length":         {"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello", nil, ""},
		"304":                {"HTTP/1.1 304 Not Modified\r\n\r\n", nil, ""},
		"101":                {"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", nil, ""},
		"two lengths":        {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 7\r\n\r\nhello12", nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			base := rawServer(t, test.text, test.after)
			b := newBed(t, nil)
			var warned atomic.Int32
			b.options.Patience = 300 * time.Millisecond
			b.options.MaxBody = 1 << 20
			b.options.Warn = func(_ Step, err error) {
				warned.Add(1)
				if fetch := (*FetchError)(nil); !errors.As(err, &fetch) || !strings.Contains(err.Error(), base) {
					t.Errorf("warned of %v", err)
				}
			}
			b.recording()
			if got := b.get(step1, base+"/f"); got.err == nil {
				t.Errorf("got %d, %d bytes", got.status, len(got.body))
			}
			b.stop()
			errs := b.failed()
			if test.want != "" {
				if len(errs) != 1 || !strings.Contains(errs[0].Error(), test.want) || !strings.Contains(errs[0].Error(), base) {
					t.Errorf("failed with %v, want %s", errs, test.want)
				}
				return
			}
			if len(errs) > 0 || warned.Load() == 0 {
				t.Errorf("failed with %v, warned %d times", errs, warned.Load())
			}
			b.replaying()
			if got := b.get(step1, base+"/f"); got.err == nil || len(b.failed()) > 0 {
				t.Errorf("replayed as %d, %d bytes, %v", got.status, len(got.body), b.failed())
			}
			if entries, _ := os.ReadDir(filepath.Join(b.cache.Dir(), tmpDir)); len(entries) > 0 {
				t.Errorf("left behind: %v", entries)
			}
		})
	}
}

// A length that is larger than the body's own is the server's word: a program would stop there, too.
func TestLongerThanAnnounced(t *testing.T) {
	base := rawServer(t, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello, and more", nil)
	b := newBed(t, nil).recording()
	b.want(b.get(step1, base+"/f"), 200, "hello")
	b.replaying()
	b.want(b.get(step1, base+"/f"), 200, "hello")
}

func TestUnreplayable(t *testing.T) {
	asked := func(w http.ResponseWriter, r *http.Request) { t.Errorf("the origin was asked for %s", r.URL) }
	for name, test := range map[string]struct {
		method, path string
		header       []string
		advice       string // "": it is harmless
	}{
		"POST":      {"POST", "/form", nil, "--downloads-allow"},
		"PUT":       {"PUT", "/f", nil, "--downloads-allow"},
		"OPTIONS":   {"OPTIONS", "/f", nil, "--downloads-allow"},
		"git":       {"POST", "/o/r.git/git-upload-pack", nil, "ADD http://HOST/o/r.git#REF"},
		"git push":  {"POST", "/o/r/git-receive-pack", nil, "ADD http://HOST/o/r.git#REF"},
		"websocket": {"GET", "/ws", []string{"Connection", "Upgrade", "Upgrade", "websocket"}, "--downloads-allow"},
		"npm audit": {"POST", "/-/npm/v1/security/advisories/bulk", nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, asked)
			for _, kind := range []func(*bed) *bed{(*bed).recording, (*bed).replaying} {
				b.failures = nil
				kind(b)
				got := b.do(step1, test.method, b.origin.URL+test.path, test.header...)
				if got.status != http.StatusMethodNotAllowed {
					t.Errorf("got %+v", got)
				}
				if test.advice == "" {
					if len(b.failed()) > 0 {
						t.Error(b.failed())
					}
					continue
				}
				var bad *UnreplayableError
				if len(b.failed()) != 1 || !errors.As(b.failed()[0], &bad) {
					t.Fatalf("failed with %v", b.failed())
				}
				advice := strings.ReplaceAll(test.advice, "HOST", strings.TrimPrefix(b.origin.URL, "http://"))
				if !strings.Contains(bad.Advice, advice) || bad.Step != step1 || !strings.HasPrefix(bad.Error(), "Dockerfile:3: "+test.method) {
					t.Errorf("%v; %s", bad, bad.Advice)
				}
			}
			if b.record.Len() != 0 {
				t.Errorf("recorded: %s", b.record.Format())
			}
		})
	}
}

// A host that is not looked up is found in whatever case a program writes it.
func TestHosts(t *testing.T) {
	b := newBed(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Host) })
	b.options.Hosts = map[string]string{"files.test": "127.0.0.1"}
	b.recording()
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(b.origin.URL, "http://"))
	b.want(b.get(step1, "http://FILES.test:"+port+"/f"), 200, "FILES.test:"+port)
	b.want(b.get(step1, "http://files.test:"+port+"/f"), 200, "FILES.test:"+port)
}

// A URL that no record can hold is refused and named.
func TestLongURL(t *testing.T) {
	b := newBed(t, func(w http.ResponseWriter, r *http.Request) {}).recording()
	path := "/" + strings.Repeat("x", maxURL-100)
	b.want(b.get(step1, b.origin.URL+path), 200, "")
	if len(b.failed()) > 0 {
		t.Fatal(b.failed())
	}
	var bad *UnreplayableError
	if got := b.get(step1, b.origin.URL+path+path); got.status != http.StatusBadRequest || len(b.failed()) != 1 || !errors.As(b.failed()[0], &bad) {
		t.Fatalf("got %d, failed with %v", got.status, b.failed())
	}
	if len(bad.Error()) > 1000 || !strings.Contains(bad.Error(), "is longer than") {
		t.Error(bad)
	}
}

// The end of the connection means a whole body to HTTP/1.0.
func TestOldClient(t *testing.T) {
	for _, whole := range []bool{true, false} {
		b := newBed(t, func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "begin")
			w.(http.Flusher).Flush()
			if !whole {
				abort()
			}
			io.WriteString(w, " and end")
		}).recording()
		c := b.dial(step1)
		defer c.Close()
		fmt.Fprintf(c, "GET %s/f HTTP/1.0\r\n\r\n", b.origin.URL)
		text, err := io.ReadAll(c)
		if whole && (err != nil || !strings.Contains(string(text), "Content-Length: 13\r\n") || !strings.HasSuffix(string(text), "begin and end")) || !whole && len(text) > 0 {
			t.Errorf("whole %v: got %q, %v", whole, text, err)
		}
	}
}

// A tunnel for HTTP/2 alone is refused.
func TestOnlyHTTP2(t *testing.T) {
	for name, speak := range map[string]func(c net.Conn){
		"plain": func(c net.Conn) { io.WriteString(c, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n") },
		"in TLS": func(c net.Conn) {
			_ = tls.Client(c, &tls.Config{ServerName: "rpc.example", NextProtos: []string{"h2"}}).Handshake()
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, nil).recording()
			c := b.dial(step1)
			defer c.Close()
			fmt.Fprintf(c, "CONNECT rpc.example:443 HTTP/1.1\r\nHost: rpc.example:443\r\n\r\n")
			r := bufio.NewReader(c)
			if _, err := http.ReadResponse(r, &http.Request{Method: "CONNECT"}); err != nil {
				t.Fatal(err)
			}
			speak(c)
			_, _ = io.Copy(io.Discard, r)
			var bad *UnreplayableError
			if errs := b.failed(); len(errs) != 1 || !errors.As(errs[0], &bad) || bad.URL != "rpc.example:443" || !strings.HasPrefix(bad.What, "the connection speaks only ") {
				t.Errorf("failed with %v", errs)
			}
		})
	}
}

// A tunnel for another protocol is refused.
func TestRawConnection(t *testing.T) {
	b := newBed(t, nil).recording()
	c := b.dial(step1)
	defer c.Close()
	fmt.Fprintf(c, "CONNECT git.example:22 HTTP/1.1\r\nHost: git.example:22\r\n\r\nSSH-2.0-OpenSSH_9\r\n")
	if text, err := io.ReadAll(c); err != nil || !strings.HasPrefix(string(text), "HTTP/1.1 200") {
		t.Errorf("%q, %v", text, err)
	}
	var bad *UnreplayableError
	if errs := b.failed(); len(errs) != 1 || !errors.As(errs[0], &bad) || bad.URL != "git.example:22" {
		t.Errorf("failed with %v", errs)
	}
}

// An allowed host gets every request, in both modes, and nothing of it is recorded; offline it gets none.
func TestAllowedHost(t *testing.T) {
	b := newBed(t, func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %s", r.Method, r.URL, text)
	})
	if err := b.record.Allow("127.0.0.1"); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []func(*bed) *bed{(*bed).recording, (*bed).replaying} {
		kind(b)
		for _, base := range []string{b.origin.URL, b.secure.URL} {
			b.want(b.do(step1, "POST", base+"/p?q=1"), 200, "POST /p?q=1 ")
			b.want(b.get(step1, base+"/g"), 200, "GET /g ")
		}
	}
	if b.record.Len() != 0 || len(b.failed()) > 0 {
		t.Errorf("%v, recorded: %s", b.failed(), b.record.Format())
	}
	b.options.Offline = true
	b.replaying()
	if got := b.get(step1, b.origin.URL+"/g"); got.err == nil || len(b.failed()) != 1 {
		t.Errorf("got %+v, %v", got, b.failed())
	}
}

// Steps that ask at once get one answer, from one fetch, and are all listed.
func TestAskedAtOnce(t *testing.T) {
	var n atomic.Int32
	b := newBed(t, func(w http.ResponseWriter, r *http.Request) {
		v := n.Add(1)
		for range 10 {
			fmt.Fprint(w, "version ", v, " ")
			w.(http.Flusher).Flush()
			time.Sleep(5 * time.Millisecond)
		}
	})
	b.recording()
	var wg sync.WaitGroup
	want := strings.Repeat("version 1 ", 10)
	for i := range 40 {
		wg.Go(func() {
			step := []Step{step1, step2}[i%2]
			var header []string
			if i%5 == 0 {
				header = []string{"Accept", "text/plain"}
			}
			if i%7 == 0 {
				got := b.get(step, b.origin.URL+"/f", append(header, "Range", "bytes=0-8")...)
				b.want(got, 206, "version 1")
				return
			}
			b.want(b.get(step, b.origin.URL+"/f", header...), 200, want)
		})
	}
	wg.Wait()
	b.stop()
	if n.Load() != 1 {
		t.Errorf("%d fetches", n.Load())
	}
	entries := b.record.Entries()
	if len(entries) != 1 || !slices.Equal(entries[0].Steps, []string{step1.ID, step2.ID}) {
		t.Errorf("recorded: %s", b.record.Format())
	}
}

// A step leaves an answer that never ends. The recording ends all the same, and names it.
func TestEndlessAnswer(t *testing.T) {
	gone := make(chan struct{})
	b := newBed(t, func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			io.WriteString(w, "event\n")
			w.(http.Flusher).Flush()
			time.Sleep(time.Millisecond)
		}
		close(gone)
	})
	b.options.Patience = 300 * time.Millisecond
	b.recording()
	c := b.dial(step1)
	fmt.Fprintf(c, "GET %s/events HTTP/1.1\r\nHost: x\r\n\r\n", b.origin.URL)
	if _, err := bufio.NewReader(c).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	c.Close()
	b.stop()
	<-gone
	var bad *UnreplayableError
	if errs := b.failed(); len(errs) != 1 || !errors.As(errs[0], &bad) || bad.URL != b.origin.URL+"/events" || bad.Step != step1 {
		t.Errorf("failed with %v", errs)
	}
	b.failures = nil
	b.replaying()
	if got := b.get(step1, b.origin.URL+"/events"); got.err == nil || len(b.failed()) > 0 {
		t.Errorf("got %+v, %v", got, b.failed())
	}
}

// A step that goes away, as curl | head does, leaves a whole record.
func TestStepLeaves(t *testing.T) {
	body := strings.Repeat("x", 1<<20)
	b := newBed(t, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, body[:100])
		w.(http.Flusher).Flush()
		time.Sleep(50 * time.Millisecond)
		io.WriteString(w, body[100:])
	})
	b.recording()
	c := b.dial(step1)
	fmt.Fprintf(c, "GET %s/f HTTP/1.1\r\nHost: x\r\n\r\n", b.origin.URL)
	if _, err := c.Read(make([]byte, 50)); err != nil {
		t.Fatal(err)
	}
	c.Close()
	b.stop()
	b.replaying()
	b.want(b.get(step1, b.origin.URL+"/f"), 200, body)
}

// Programs that ignore proxies are told apart by the server name of TLS and by Host.
func TestTransparent(t *testing.T) {
	b := newBed(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Host+r.URL.String()) })
	b.options.ProxyFor = nil
	b.recording()
	b.proxy.client.DialContext = (&net.Dialer{}).DialContext
	dial := b.proxy.client.DialContext
	b.proxy.client.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		switch addr {
		case "plain.example:80":
			addr = b.origin.Listener.Addr().String()
		case "example.com:443":
			addr = b.secure.Listener.Addr().String()
		}
		return dial(ctx, network, addr)
	}
	ask := func() {
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(b.ca.PEM())
		c := &http.Client{Transport: &http.Transport{
			DialContext: func(context.Context, string, string) (net.Conn, error) { return b.dial(step1), nil },
			DialTLSContext: func(_ context.Context, _, addr string) (net.Conn, error) {
				name, _, _ := strings.Cut(addr, ":")
				return tls.Client(b.dial(step1), &tls.Config{RootCAs: pool, ServerName: name}), nil
			},
		}}
		defer c.CloseIdleConnections()
		for _, url := range []string{"http://plain.example/a", "https://example.com/b"} {
			resp, err := c.Get(url)
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if _, rest, _ := strings.Cut(url, "://"); err != nil || string(text) != rest {
				t.Errorf("%s: %s, %v", url, text, err)
			}
		}
	}
	ask()
	b.stop()
	b.replaying()
	ask()
	if errs := b.failed(); len(errs) > 0 {
		t.Error(errs)
	}
}

// Values of build secrets are in no record.
func TestSecretValues(t *testing.T) {
	b := newBed(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</"+strings.TrimPrefix(r.URL.Path, "/")+"/next>")
		w.Header().Set("Set-Cookie", "session=hunter2")
		io.WriteString(w, "for "+r.URL.Path)
	})
	b.options.Secrets = [][]byte{[]byte("s3cret/value"), []byte("a"), []byte(" fromfile\r\n")}
	b.recording()
	b.want(b.get(step1, b.origin.URL+"/s3cret%2Fvalue/f?key=s3cret%2Fvalue&a=1&b=fromfile"), 200, "for /s3cret/value/f")
	b.stop()
	b.replaying()
	b.want(b.get(step1, b.origin.URL+"/s3cret%2Fvalue/f?key=s3cret%2Fvalue&a=1&b=fromfile"), 200, "for /s3cret/value/f")
	for _, bad := range []string{"s3cret", "hunter2", "fromfile"} {
		if text := string(b.record.Format()); strings.Contains(text, bad) {
			t.Errorf("%s is in the record:\n%s", bad, text)
		}
	}
}

// A body that the cache lost or that has another content is fetched again, if the origin still has the same.
func TestDamagedBody(t *testing.T) {
	current := atomic.Value{}
	current.Store("the same")
	b := newBed(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, current.Load().(string)) })
	b.recording()
	b.want(b.get(step1, b.origin.URL+"/f"), 200, "the same")
	b.stop()
	file := b.cache.blob(b.record.Entries()[0].Digest)
	for name, damage := range map[string]func() error{
		"flipped": func() error { return os.WriteFile(file, []byte("thE same"), 0o644) },
		"short":   func() error { return os.WriteFile(file, []byte("the"), 0o644) },
		"gone":    func() error { return os.Remove(file) },
	} {
		if err := damage(); err != nil {
			t.Fatal(err)
		}
		b.replaying()
		b.want(b.get(step1, b.origin.URL+"/f"), 200, "the same")
		if text, err := os.ReadFile(file); err != nil || string(text) != "the same" {
			t.Errorf("%s: %s, %v", name, text, err)
		}
	}
	current.Store("another")
	os.Remove(file)
	b.replaying()
	if got := b.get(step1, b.origin.URL+"/f"); got.err == nil {
		t.Errorf("got %+v", got)
	}
	var missing *MissingError
	if errs := b.failed(); len(errs) != 1 || !errors.As(errs[0], &missing) || !strings.Contains(missing.Error(), b.origin.URL+"/f") || !strings.HasSuffix(missing.Error(), "): its server: other bytes") {
		t.Errorf("failed with %v", errs)
	}
}

// A large body is checked while it is sent. If it is damaged, no step goes on with it: it is fetched again, and the build has
// to begin again. A request for a part gets the right one at once.
func TestDamagedLargeBody(t *testing.T) {
	content := strings.Repeat("the same ", streamed/9+1)
	current := atomic.Value{}
	current.Store(content)
	b := newBed(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, current.Load().(string)) })
	b.recording()
	b.want(b.get(step1, b.origin.URL+"/f"), 200, content)
	b.want(b.get(step1, b.secure.URL+"/f"), 200, content)
	b.stop()
	file := b.cache.blob(b.record.Entries()[0].Digest)
	replace := func(text string) {
		t.Helper()
		if err := os.WriteFile(file+".new", []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	flipped := content[:len(content)-1] + "X"
	for range 2 { // the file is another, and then known
		replace(content)
		b.replaying()
		b.want(b.get(step1, b.origin.URL+"/f"), 200, content)
		b.want(b.get(step1, b.secure.URL+"/f"), 200, content)
	}
	for _, damaged := range []string{flipped, "X" + content[1:]} {
		replace(damaged)
		b.replaying()
		before := len(b.failed())
		if got := b.get(step1, b.origin.URL+"/f"); got.err == nil {
			t.Errorf("a damaged body is an answer of %d bytes", len(got.body))
		}
		var restored *RestoredError
		if errs := b.failed()[before:]; len(errs) != 1 || !errors.As(errs[0], &restored) {
			t.Errorf("failed with %v", errs)
		}
		b.replaying()
		b.want(b.get(step1, b.origin.URL+"/f"), 200, content)
	}
	replace(flipped)
	b.replaying()
	b.want(b.get(step1, b.origin.URL+"/f", "Range", "bytes="+strconv.Itoa(len(content)-1)+"-"), 206, " ")

	current.Store("another")
	replace(flipped)
	b.replaying()
	before := len(b.failed())
	got := b.get(step1, b.origin.URL+"/f")
	var missing *MissingError
	if errs := b.failed()[before:]; got.err == nil || len(errs) != 1 || !errors.As(errs[0], &missing) {
		t.Errorf("%d bytes, %v, failed with %v", len(got.body), got.err, errs)
	}
}

// curl and wget, if they are there, see what they would see without kedge.
func TestRealPrograms(t *testing.T) {
	b := newBed(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/redirect":
			http.Redirect(w, r, "/file", http.StatusFound)
		case "/cut":
			io.WriteString(w, "begin")
			w.(http.Flusher).Flush()
			abort()
		case "/404":
			http.Error(w, "no", http.StatusNotFound)
		default:
			http.ServeContent(w, r, "", time.Time{}, strings.NewReader("the content of the file"))
		}
	})
	b.recording()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go b.serve(step1, c)
		}
	}()
	bundle := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(bundle, b.ca.PEM(), 0o644); err != nil {
		t.Fatal(err)
	}
	run := func(name string, args ...string) (string, int) {
		cmd := exec.Command(name, args...)
		proxy := "http://" + l.Addr().String()
		cmd.Env = append(os.Environ(), "http_proxy="+proxy, "https_proxy="+proxy, "no_proxy=")
		out, _ := cmd.Output()
		return string(out), cmd.ProcessState.ExitCode()
	}
	ask := func() {
		for _, test := range []struct {
			command string
			want    string
			code    int
		}{
			{"curl -sSf URL/file", "the content of the file", 0},
			{"curl -sSfL URL/redirect", "the content of the file", 0},
			{"curl -sSf --compressed -r 4-10 URL/file", "content", 0},
			{"curl -sSf --http1.0 URL/file", "the content of the file", 0},
			{"curl -sSf URL/404", "", 22},
			{"curl -sS URL/cut", "", -1},
			{"wget -qO- URL/file", "the content of the file", 0},
			{"wget -qO- URL/redirect", "the content of the file", 0},
			{"wget -qO- --tries=1 URL/404", "", 8},
		} {
			for _, base := range []string{b.origin.URL, b.secure.URL} {
				args := strings.Fields(strings.ReplaceAll(test.command, "URL", base))
				if _, err := exec.LookPath(args[0]); err != nil {
					if os.Getenv("KEDGE_TEST_REQUIRE") != "" {
						t.Fatal(err)
					}
					t.Logf("no %s", args[0])
					continue
				}
				if args[0] == "curl" {
					args = append(args, "--cacert", bundle)
				} else {
					args = append(args, "--ca-certificate="+bundle)
				}
				out, code := run(args[0], args[1:]...)
				if test.code >= 0 && (code != test.code || out != test.want) || test.code < 0 && code == 0 {
					t.Errorf("%s: %q, exit %d", strings.Join(args, " "), out, code)
				}
			}
		}
	}
	ask()
	b.stop()
	b.origin.Close()
	b.secure.Close()
	b.replaying()
	ask()
	if errs := b.failed(); len(errs) > 0 {
		t.Error(errs)
	}
}

// An upstream proxy fetches, and an origin's own certificate authority is needed.
func TestUpstreamProxyAndTrust(t *testing.T) {
	b := newBed(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "from "+r.Host) })
	through, err := url.Parse(b.origin.URL)
	if err != nil {
		t.Fatal(err)
	}
	b.options.ProxyFor = func(u *url.URL) (*url.URL, error) {
		if u.Hostname() == "elsewhere.example" {
			return through, nil
		}
		return nil, nil
	}
	b.options.Roots = nil
	b.recording()
	b.want(b.get(step1, "http://elsewhere.example/f"), 200, "from elsewhere.example")
	if got := b.get(step1, b.secure.URL+"/f"); got.err == nil {
		t.Errorf("an unknown authority: %+v", got)
	}
}
