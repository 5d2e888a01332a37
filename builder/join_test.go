package builder

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestJoin(t *testing.T) {
	at := func(s int64) time.Time { return time.Unix(s, 0) }
	near := &Result{Started: at(2), Finished: at(5), LastRunStarted: at(3), sent: map[string]sentFile{"context\x00a": {sum: "1"}, "context\x00b": {sum: "2"}}, Platforms: make([]Platform, 1), caches: 7}
	far := &Result{Started: at(1), Finished: at(4), LastRunFinished: at(4), sent: map[string]sentFile{"context\x00a": {sum: "1"}, "context\x00c": {sum: "3"}}, Platforms: make([]Platform, 2)}
	joined, err := Join([]*Result{near, far}, Resolution{Epoch: at(9)})
	if err != nil {
		t.Fatal(err)
	}
	if joined.Started != at(1) || joined.Finished != at(5) || joined.LastRunStarted != at(3) || joined.LastRunFinished != at(4) ||
		joined.Epoch != at(9) || len(joined.Platforms) != 3 || len(joined.sent) != 3 || joined.caches != 7 {
		t.Errorf("%+v", joined)
	}
	if len(near.sent) != 2 || len(near.Platforms) != 1 {
		t.Errorf("a part has changed: %+v", near)
	}
	far.sent["context\x00a"] = sentFile{sum: "edited"}
	var changed *ChangedContextError
	if _, err := Join([]*Result{near, far}, Resolution{}); !errors.As(err, &changed) || changed.Path != "a" || strings.Contains(err.Error(), "two builds") {
		t.Errorf("a file that changed between two nodes: %v", err)
	}
}
