package image

import (
	"fmt"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

func TestConfigCanonical(t *testing.T) {
	a, b := digest.FromString("a"), digest.FromString("b")
	tests := []struct{ name, in, want string }{
		{
			name: "no layers, as BuildKit writes it",
			in:   `{"rootfs":{"type":"layers","diff_ids":null},"history":null,"config":null}`,
			want: `{"config":{"Labels":{"l":"<v>"}},"created":"2023-11-14T22:13:20Z","rootfs":{"diff_ids":[],"type":"layers"}}`,
		},
		{
			name: "numbers, order, unknown fields",
			in:   `{"z":1e400,"rootfs":{"diff_ids":[],"type":"layers"},"a":[{"y":0.10,"x":-0}],"config":{"Labels":{"l":"old","k":"\u00e9\u2028"}}}`,
			want: `{"a":[{"x":-0,"y":0.10}],"config":{"Labels":{"k":"é\u2028","l":"<v>"}},"created":"2023-11-14T22:13:20Z","rootfs":{"diff_ids":[],"type":"layers"},"z":1e400}`,
		},
		{
			name: "history",
			in:   fmt.Sprintf(`{"rootfs":{"diff_ids":[%q,%q],"type":"layers"},"history":[{"created":"x"},{"empty_layer":true},{"empty_layer":false}],"moby.buildkit.cache.v0":"x"}`, a, b),
			want: fmt.Sprintf(`{"config":{"Labels":{"l":"<v>"}},"created":"2023-11-14T22:13:20Z","history":[{"created":"x"},{"created":"2023-11-14T22:13:20Z","empty_layer":true},{"created":"2023-11-14T22:13:20Z","empty_layer":false}],"rootfs":{"diff_ids":[%q,%q],"type":"layers"}}`, b, a),
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := parseConfig([]byte(tt.in))
			if err != nil {
				t.Fatal(err)
			}
			var ids []digest.Digest
			if len(c.diffIDs) == 2 {
				ids = []digest.Digest{b, a}
			}
			got, err := c.canonical(epoch, min(1, len(c.history)), ids, map[string]string{"l": "<v>"}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

var badConfigs = []struct{ name, in, want string }{
	{"empty", ``, "unexpected EOF"},
	{"null", `null`, "want an object, have null"},
	{"array", `[]`, "want an object, have an array"},
	{"cut", `{"rootfs":`, "unexpected EOF"},
	{"two documents", `{"rootfs":{"type":"layers"}}{}`, "more than one JSON document"},
	{"not UTF-8", "{\"a\":\"\xff\"}", "not UTF-8"},
	{"deep", strings.Repeat("[", 100000), "nested more than 64 deep"},
	{"key twice", `{"created":"a","created":"b"}`, `key "created" occurs twice`},
	{"key twice, inside", `{"config":{"Env":[],"Env":[]}}`, `key "Env" occurs twice`},
	{"no rootfs", `{}`, "rootfs: missing"},
	{"null rootfs", `{"rootfs":null}`, "rootfs: missing"},
	{"rootfs of another type", `{"rootfs":{"type":"tree"}}`, `rootfs.type: want "layers"`},
	{"rootfs a string", `{"rootfs":"layers"}`, "rootfs: want an object, have a string"},
	{"diffIDs an object", `{"rootfs":{"type":"layers","diff_ids":{}}}`, "rootfs.diff_ids: want an array, have an object"},
	{"diffID a number", `{"rootfs":{"type":"layers","diff_ids":[1]}}`, "rootfs.diff_ids[0]: want a string, have a number"},
	{"diffID no digest", `{"rootfs":{"type":"layers","diff_ids":["sha256:1"]}}`, `rootfs.diff_ids[0]: "sha256:1"`},
	{"history an object", `{"rootfs":{"type":"layers"},"history":{}}`, "history: want an array, have an object"},
	{"history of strings", `{"rootfs":{"type":"layers"},"history":["x"]}`, "history[0]: want an object, have a string"},
	{"history without layer", `{"rootfs":{"type":"layers"},"history":[{}]}`, "history names 1 layers, rootfs 0"},
	{"empty_layer a string", `{"rootfs":{"type":"layers"},"history":[{"empty_layer":"no"}]}`, "history[0].empty_layer: want a boolean, have a string"},
	{"config a string", `{"rootfs":{"type":"layers"},"config":"x"}`, "config: want an object, have a string"},
	{"labels an array", `{"rootfs":{"type":"layers"},"config":{"Labels":[]}}`, "config.Labels: want an object, have an array"},
}

func TestConfigRefuses(t *testing.T) {
	for _, tt := range badConfigs {
		t.Run(tt.name, func(t *testing.T) {
			c, err := parseConfig([]byte(tt.in))
			if err == nil {
				_, err = c.canonical(epoch, 0, nil, map[string]string{"a": "b"}, nil)
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q in it", err, tt.want)
			}
		})
	}
}

// FuzzConfig reads anything as an image config. The canonical form of an accepted config must be stable.
func FuzzConfig(f *testing.F) {
	for _, tt := range badConfigs {
		f.Add([]byte(tt.in))
	}
	f.Add([]byte(fmt.Sprintf(`{"rootfs":{"type":"layers","diff_ids":[%q]},"history":[{}],"config":{"Labels":{"a":"b"}},"n":1.0}`, digest.FromString("a"))))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := parseConfig(data)
		if err != nil {
			return
		}
		first, err := c.canonical(epoch, 0, c.diffIDs, map[string]string{"a": "b"}, nil)
		if err != nil {
			return
		}
		c, err = parseConfig(first)
		if err != nil {
			t.Fatalf("a canonical config is refused: %v\n%s", err, first)
		}
		second, err := c.canonical(epoch, 0, c.diffIDs, map[string]string{"a": "b"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if string(first) != string(second) {
			t.Errorf("first  %s\nsecond %s", first, second)
		}
	})
}
