package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/kedge-build/kedge/internal/strictjson"
	"github.com/opencontainers/go-digest"
)

// A config is an image config with all its fields, including those that kedge does not know. See
// https://github.com/opencontainers/image-spec/blob/v1.1.1/config.md.
type config struct {
	fields  map[string]any
	rootfs  map[string]any
	diffIDs []digest.Digest
	history []map[string]any
}

// parseConfig reads the JSON of an image config. It refuses duplicate keys, wrong types and a history that
// does not match the layers.
func parseConfig(data []byte) (*config, error) {
	doc, err := strictjson.Decode(data)
	if err != nil {
		return nil, err
	}
	c := &config{}
	var ok bool
	if c.fields, ok = doc.(map[string]any); !ok {
		return nil, fmt.Errorf("want an object, have %s", kind(doc))
	}
	if c.rootfs, err = field[map[string]any](c.fields, "rootfs"); err != nil {
		return nil, err
	}
	if c.rootfs == nil {
		return nil, errors.New("rootfs: missing")
	}
	if typ, err := field[string](c.rootfs, "type"); err != nil || typ != "layers" {
		return nil, fmt.Errorf(`rootfs.type: want "layers", have %s`, kind(c.rootfs["type"]))
	}
	ids, err := field[[]any](c.rootfs, "diff_ids")
	if err != nil {
		return nil, fmt.Errorf("rootfs.%w", err)
	}
	for i, v := range ids {
		s, ok := v.(string)
		if !ok {
			return nil, fmt.Errorf("rootfs.diff_ids[%d]: want a string, have %s", i, kind(v))
		}
		id, err := digest.Parse(s)
		if err != nil {
			return nil, fmt.Errorf("rootfs.diff_ids[%d]: %q: %w", i, s, err)
		}
		c.diffIDs = append(c.diffIDs, id)
	}
	if err := c.parseHistory(); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *config) parseHistory() error {
	entries, err := field[[]any](c.fields, "history")
	if err != nil {
		return err
	}
	layers := 0
	for i, v := range entries {
		h, ok := v.(map[string]any)
		if !ok {
			return fmt.Errorf("history[%d]: want an object, have %s", i, kind(v))
		}
		empty, err := field[bool](h, "empty_layer")
		if err != nil {
			return fmt.Errorf("history[%d].%w", i, err)
		}
		if !empty {
			layers++
		}
		c.history = append(c.history, h)
	}
	// BuildKit guarantees this (exporter/containerimage, normalizeLayersAndHistory), and verdicts find the
	// instruction of a layer by it.
	if layers != len(c.diffIDs) {
		return fmt.Errorf("history names %d layers, rootfs %d", layers, len(c.diffIDs))
	}
	return nil
}

// canonical renders the config of the canonical image. It sets diffIDs as the layers, keeps the first
// baseHistory history entries, and replaces every other time of the build by epoch. The config must not be
// used afterwards.
func (c *config) canonical(epoch time.Time, baseHistory int, diffIDs []digest.Digest, labels map[string]string, drop []string) ([]byte, error) {
	if baseHistory < 0 || baseHistory > len(c.history) {
		return nil, fmt.Errorf("%d history entries of the base image, but %d in all", baseHistory, len(c.history))
	}
	created := epoch.UTC().Format(time.RFC3339)
	c.fields["created"] = created
	for _, h := range c.history[baseHistory:] {
		h["created"] = created
	}
	if c.history == nil {
		delete(c.fields, "history") // BuildKit writes null
	}
	if diffIDs == nil {
		diffIDs = []digest.Digest{}
	}
	c.rootfs["diff_ids"] = diffIDs
	for k := range c.fields {
		if strings.HasPrefix(k, "moby.buildkit.") {
			delete(c.fields, k) // inline cache and build info change from build to build
		}
	}
	if len(labels) > 0 {
		run, err := object(c.fields, "config")
		if err != nil {
			return nil, err
		}
		merged, err := object(run, "Labels")
		if err != nil {
			return nil, fmt.Errorf("config.%w", err)
		}
		for _, k := range drop {
			delete(merged, k)
		}
		for k, v := range labels {
			merged[k] = v
		}
	}
	return strictjson.Encode(c.fields)
}

// field returns the value of a key, the zero value if it is absent or null.
func field[T any](m map[string]any, key string) (T, error) {
	var zero T
	v := m[key]
	if v == nil {
		return zero, nil
	}
	t, ok := v.(T)
	if !ok {
		return zero, fmt.Errorf("%s: want %s, have %s", key, kind(zero), kind(v))
	}
	return t, nil
}

// object returns the object at a key. It creates the object if the key is absent.
func object(m map[string]any, key string) (map[string]any, error) {
	o, err := field[map[string]any](m, key)
	if err != nil {
		return nil, err
	}
	if o == nil {
		o = map[string]any{}
		m[key] = o
	}
	return o, nil
}

func kind(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case string:
		return "a string"
	case bool:
		return "a boolean"
	case json.Number:
		return "a number"
	case []any:
		return "an array"
	case map[string]any:
		return "an object"
	default:
		return fmt.Sprintf("%T", v)
	}
}
