package diff

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// settings compares two image configs, except for the history and the diffIDs, which have their own
// comparison.
func settings(a, b []byte) ([]Setting, error) {
	x, err := Settings(a)
	if err != nil {
		return nil, fmt.Errorf("reading the first image's config: %w", err)
	}
	y, err := Settings(b)
	if err != nil {
		return nil, fmt.Errorf("reading the second image's config: %w", err)
	}
	list := []Setting{}
	for _, key := range unionKeys(x, y) {
		before, had := x[key]
		after, has := y[key]
		switch {
		case !had:
			list = append(list, Setting{Key: key, Change: Added, Second: after})
		case !has:
			list = append(list, Setting{Key: key, Change: Removed, First: before})
		case before != after:
			list = append(list, Setting{Key: key, Change: Changed, First: before, Second: after})
		}
	}
	return list, nil
}

func unionKeys[V any](a, b map[string]V) []string {
	keys := slices.AppendSeq(slices.Collect(maps.Keys(a)), maps.Keys(b))
	slices.Sort(keys)
	return slices.Compact(keys)
}

// Settings returns the values of an image config by their keys, as [Setting] has them, except for the history and
// the diffIDs.
func Settings(raw []byte) (map[string]string, error) {
	var top map[string]any
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	if err := dec.Decode(&top); err != nil {
		return nil, err
	}
	delete(top, "history")
	delete(top, "rootfs")
	flat := map[string]string{}
	return flat, flatten(flat, "", top, 0)
}

var plainKey = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// flatten puts the values below v into flat. Each member of an object gets a key. So does each entry of Env, whose
// order means nothing.
func flatten(flat map[string]string, key string, v any, depth int) error {
	const maxDepth = 100
	if depth > maxDepth {
		return fmt.Errorf("%q is nested too deeply", key)
	}
	below := func(name string) string {
		switch {
		case !plainKey.MatchString(name):
			return key + "[" + strconv.Quote(name) + "]"
		case key == "":
			return name
		}
		return key + "." + name
	}
	switch v := v.(type) {
	case nil:
		return nil // the same as an absent key
	case string:
		flat[key] = v
		return nil
	case map[string]any:
		if len(v) == 0 && key != "" {
			flat[key] = "{}" // such as a volume
		}
		for name, member := range v {
			if err := flatten(flat, below(name), member, depth+1); err != nil {
				return err
			}
		}
		return nil
	case []any:
		if key == "config.Env" {
			for _, e := range v {
				if s, ok := e.(string); ok {
					name, value, _ := strings.Cut(s, "=")
					flat[below(name)] = value
				}
			}
			return nil
		}
	}
	b, err := json.Marshal(v)
	flat[key] = string(b)
	return err
}

// steps compares two histories entry by entry.
func steps(a, b []v1.History) []Step {
	list := []Step{}
	for i := range max(len(a), len(b)) {
		first, second := stepState(a, i), stepState(b, i)
		if first == nil || second == nil || *first != *second {
			list = append(list, Step{Index: i, First: first, Second: second})
		}
	}
	return list
}

func stepState(list []v1.History, i int) *StepState {
	if i >= len(list) {
		return nil
	}
	h := list[i]
	s := &StepState{CreatedBy: h.CreatedBy, Author: h.Author, Comment: h.Comment, EmptyLayer: h.EmptyLayer}
	if !h.Created.IsZero() {
		s.Created = h.Created.UTC().Format(time.RFC3339Nano)
	}
	return s
}
