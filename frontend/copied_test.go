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
	want := map[int][]string{2: {"one", "two/*.txt"}, 5: {"local"}, 10: {"bound"}}
	if diff := cmp.Diff(want, Copied([]byte(text))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := Copied([]byte("FROM")); len(got) > 0 {
		t.Errorf("of no Dockerfile: %v", got)
	}
}
