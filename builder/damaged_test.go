package builder

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestAgainDamaged(t *testing.T) {
	damaged := fmt.Errorf("node a: %w", &DamagedError{Digest: "sha256:" + strings.Repeat("1", 64), Err: errors.New("x")})
	for attempt, want := range map[int]bool{1: true, 2: true, 3: false} {
		if _, again := Again(&Request{}, damaged, attempt); again != want {
			t.Errorf("attempt %d: again is %v", attempt, again)
		}
	}
	if _, again := Again(&Request{}, &DamagedError{Kept: errors.New("x")}, 1); again {
		t.Error("the builder has it, and would fail again")
	}
}

func TestMismatch(t *testing.T) {
	one, two := strings.Repeat("1", 64), strings.Repeat("2", 64)
	for text, want := range map[string]string{
		`failed commit on ref "layer-sha256:` + two + `": unexpected commit digest sha256:` + one + `, expected sha256:` + two + `: failed precondition`: "sha256:" + two,
		`process "/bin/sh -c sha256sum -c" did not complete successfully: exit code: 1`:                                                                  "",
		"unexpected commit digest sha256:1, expected sha256:2":                                                                                           "",
	} {
		m := mismatch.FindStringSubmatch(text)
		if got := strings.Join(m[min(1, len(m)):], ""); got != want {
			t.Errorf("%s: %q, not %q", text, got, want)
		}
	}
}
