package frontend

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCopied(t *testing.T) {
	const text = `FROM a AS b
COPY one two/*.txt \
  /to/
COPY --from=b /x /y
ADD https://example.com/f local git@example.com:r.git /z
RUN true
COPY <<EOT /f
text
EOT
RUN --mount=source=bound,target=/x --mount=from=b,source=other,target=/y --mount=target=/z \
  --mount=type=cache,source=cached,target=/c true
`
	for line, want := range map[int][]string{
		0: nil, 1: nil, 2: {"one", "two/*.txt"}, 3: {"one", "two/*.txt"}, 4: nil, 5: {"local"}, 6: nil, 7: nil, 10: {"bound"}, 11: {"bound"}, 99: nil,
	} {
		if diff := cmp.Diff(want, Copied([]byte(text), line)); diff != "" {
			t.Errorf("line %d (-want +got):\n%s", line, diff)
		}
	}
	if got := Copied([]byte("FROM"), 1); got != nil {
		t.Errorf("of no Dockerfile: %q", got)
	}
}
