package bake

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/tonistiigi/go-csvvalue"
)

// Jobs says how targets are built side by side.
type Jobs struct {
	Parallel int  // at most so many at once; 0 means all
	FailFast bool // whether the first failure stops the others
}

// ParseJobs parses --jobs of docker buildx bake: N, or MODE[,parallel=N]. An empty word is the zero value.
func ParseJobs(word string) (j Jobs, err error) {
	if _, err := strconv.Atoi(word); err == nil {
		word = "parallel=" + word
	}
	if word == "" {
		return j, nil
	}
	fields, err := csvvalue.Fields(word, nil)
	if err != nil {
		return j, fmt.Errorf("invalid jobs option: %w", err)
	}
	seen := map[string]bool{}
	for _, field := range fields {
		key, value, ok := strings.Cut(strings.TrimSpace(field), "=")
		if !ok {
			key, value = "mode", key
		}
		if seen[key] {
			return j, fmt.Errorf("duplicate jobs option %q", key)
		}
		seen[key] = true
		switch key + "=" + value {
		case "mode=fail-fast":
			j.FailFast = true
			continue
		case "mode=defer-error":
			continue
		case "mode=defer-output":
			return j, fmt.Errorf("jobs mode %q: kedge writes a target's output when its build ends; use defer-error or fail-fast", value)
		}
		switch key {
		case "mode":
			return j, fmt.Errorf("invalid jobs mode %q", value)
		case "parallel":
			if j.Parallel, err = strconv.Atoi(value); err != nil || j.Parallel < 0 {
				return j, fmt.Errorf("invalid jobs parallel value %q: must be a non-negative integer", value)
			}
		default:
			return j, fmt.Errorf("unknown jobs option %q", key)
		}
	}
	return j, nil
}
