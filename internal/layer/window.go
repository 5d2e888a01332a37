package layer

import (
	"context"
	"errors"
	"io"
)

// A window is an io.ReadSeeker of a file. Package archive/tar reads headers, for which it has a small buffer, and
// seeks over content that its caller skips.
type window struct {
	ctx       context.Context
	r         io.ReaderAt
	size, pos int64
	buf       [16 << 10]byte
	start     int64 // of buf in the file
	filled    int   // bytes of buf
}

func (w *window) Read(p []byte) (int, error) {
	if w.ctx.Err() != nil {
		return 0, context.Cause(w.ctx)
	}
	p = p[:min(int64(len(p)), max(0, w.size-w.pos))]
	if len(p) == 0 {
		return 0, io.EOF
	}
	if held := w.pos - w.start; held >= 0 && held < int64(w.filled) {
		n := copy(p, w.buf[held:w.filled])
		w.pos += int64(n)
		return n, nil
	}
	into := p
	if len(p) < len(w.buf) {
		into = w.buf[:min(int64(len(w.buf)), w.size-w.pos)]
	}
	n, err := w.r.ReadAt(into, w.pos)
	if n < len(into) {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return 0, err
	}
	if len(p) < len(w.buf) {
		w.start, w.filled = w.pos, n
		n = copy(p, into)
	}
	w.pos += int64(n)
	return n, nil
}

func (w *window) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += w.pos
	case io.SeekEnd:
		offset += w.size
	}
	if offset < 0 {
		return 0, errors.New("seek before the start")
	}
	w.pos = offset
	return offset, nil
}
