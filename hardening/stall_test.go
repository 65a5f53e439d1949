package hardening

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"
)

// patient is a connection: it says how long the server waits for its caller.
type patient struct {
	*httptest.ResponseRecorder
	read, write time.Time
	wrote       time.Time // the write deadline while the answer was written
}

func (p *patient) SetReadDeadline(at time.Time) error  { p.read = at; return nil }
func (p *patient) SetWriteDeadline(at time.Time) error { p.write = at; return nil }

func (p *patient) Write(b []byte) (int, error) {
	p.wrote = p.write
	return p.ResponseRecorder.Write(b)
}

// drip is a body of which the rest never comes.
type drip struct {
	conn  *patient
	first io.Reader
	never bool // nothing ever ended the wait
}

func (d *drip) Read(b []byte) (int, error) {
	if n, err := d.first.Read(b); err == nil {
		return n, nil
	}
	if d.conn.read.IsZero() {
		d.never = true
		return 0, io.ErrUnexpectedEOF
	}
	return 0, os.ErrDeadlineExceeded
}

// TestCallerThatStandsStill: a caller that does not send the rest of a big body, or does not take the answer, does not keep its
// place from the others. The connection of one that sent all gets no deadline for what comes later.
func TestCallerThatStandsStill(t *testing.T) {
	w := newWorld(t, nil)
	w.batches = newSlots(1, 0)
	send := func(body io.Reader, conn *patient) {
		r := httptest.NewRequest(http.MethodPost, pathProtect, body)
		r.ContentLength = -1
		r.Header.Set("Content-Type", "text/plain")
		r.Header.Set("Authorization", "Bearer "+testToken)
		w.ServeHTTP(conn, r)
	}
	conn := &patient{ResponseRecorder: httptest.NewRecorder()}
	body := &drip{conn: conn, first: strings.NewReader("alice\t\t")}
	send(body, conn)
	if body.never || conn.Code != 400 || conn.read.IsZero() || !conn.write.IsZero() {
		t.Errorf("%d, waited for ever: %v, deadlines %v and %v", conn.Code, body.never, conn.read, conn.write)
	}
	conn = &patient{ResponseRecorder: httptest.NewRecorder()}
	send(strings.NewReader(line("alice", "", "x")), conn)
	if conn.Code != 200 || conn.wrote.IsZero() || !conn.read.IsZero() || !conn.write.IsZero() {
		t.Errorf("%d, deadlines %v, %v and %v", conn.Code, conn.wrote, conn.read, conn.write)
	}
}
