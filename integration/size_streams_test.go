package integration

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// quietStreams answers /sse with one event and then nothing until the peer goes, and the rest plainly.
func quietStreams(r *received, conn net.Conn) {
	if !strings.HasSuffix(r.path(), "/sse") {
		plainAnswer(r, conn)
		return
	}
	fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\nc\r\ndata: tick\n\n\r\n")
	_, _ = io.Copy(io.Discard, conn)
}

// viewers are people, or pages of one person, who watch event streams over HTTP/2.
type viewers struct {
	mu      sync.Mutex     // guards the fields below
	open    int            // streams that have begun and not ended
	ended   int            // streams that had begun and were cut, the moment they were or later
	refused map[string]int // streams that have not begun, by how
	done    sync.WaitGroup
}

// watch opens n streams with a session, many on a connection, and stays with each to its end.
func (v *viewers) watch(t testing.TB, ctx context.Context, r *rig, who *session, n int) {
	t.Helper()
	for n > 0 {
		client := newBrowser(t).client
		client.Jar, client.Timeout = nil, 0
		for range min(n, 200) {
			req := call(t, "GET", r.url(appHost, "/members/sse"), "", "Accept", "text/event-stream", "Cookie", strings.TrimPrefix(who.line(), "Cookie: "))
			v.done.Go(func() { v.follow(client.Do(req.WithContext(ctx))) })
		}
		n -= 200
	}
}

func (v *viewers) follow(res *http.Response, err error) {
	if err == nil {
		defer res.Body.Close()
		if res.StatusCode != http.StatusOK {
			v.refuse(res.Status)
			return
		}
		_, err = io.ReadFull(res.Body, make([]byte, len("data: tick\n\n")))
	}
	if err != nil {
		v.refuse("cut")
		return
	}
	v.mu.Lock()
	v.open++
	v.mu.Unlock()
	_, _ = io.Copy(io.Discard, res.Body) // to its end, of whatever kind
	v.mu.Lock()
	defer v.mu.Unlock()
	v.open--
	v.ended++
}

func (v *viewers) refuse(how string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.refused[how]++
}

// want waits until so many streams are open.
func (v *viewers) want(t testing.TB, open int) {
	t.Helper()
	eventually(t, patience, func() error {
		v.mu.Lock()
		defer v.mu.Unlock()
		if v.open != open {
			return fmt.Errorf("%d streams are open, want %d; refused: %v", v.open, open, v.refused)
		}
		return nil
	})
}

// One session opens 2,000 event streams. It gets 1,024 and the others are refused or cut; nobody else is worse off for it; a
// sign-out ends all of them and gives the memory back.
func TestSizeStreams(t *testing.T) {
	const streams, most = 2000, 1024
	const perStream, garbage, left = 128 << 10, 384 << 20, 12 << 20 // bytes: in use for an open stream; the peak above what was; in use when all have ended
	r := newRig(t, sizeConfig)
	r.dump.respond(t, quietStreams)
	dana, other := r.person(t, appHost, "dana"), r.person(t, appHost, "dana")
	before := r.usage(t)
	ctx, cancel := context.WithCancel(t.Context())
	mine, theirs := &viewers{refused: map[string]int{}}, &viewers{refused: map[string]int{}}
	t.Cleanup(func() { cancel(); mine.done.Wait(); theirs.done.Wait() })

	mine.watch(t, ctx, r, dana, streams)
	eventually(t, patience, func() error {
		mine.mu.Lock()
		defer mine.mu.Unlock()
		answered := mine.open + mine.ended
		for _, n := range mine.refused {
			answered += n
		}
		if answered < streams {
			return fmt.Errorf("%d of %d streams are answered", answered, streams)
		}
		return nil
	})
	mine.want(t, most)
	theirs.watch(t, ctx, r, other, 1)
	theirs.want(t, 1)
	during := r.usage(t)
	t.Logf("before: %v", before)
	t.Logf("during: %v; refused: %v", during, mine.refused)
	if during.streams != most+1 {
		t.Errorf("the program counts %d streams, want %d", during.streams, most+1)
	}
	if each := (during.heap - before.heap) / most; each > perStream {
		t.Errorf("a stream takes %d bytes, %d at most", each, perStream)
	}
	if grown := during.peak - before.resident; grown > garbage {
		t.Errorf("it took %.1f MiB more of memory than before, %.1f at most", mib(grown), mib(garbage))
	}

	r.signOut(t, appHost, dana)
	signedOut := startWatch()
	mine.want(t, 0)
	took := signedOut.elapsed()
	if signedOut.over(took, 2*time.Second) {
		t.Errorf("%d streams ended only %v after the sign-out", most, took)
	}
	t.Logf("%d streams ended %v after the sign-out", most, took.Round(time.Millisecond))
	if got := r.status(t, appHost, "/members/x", other); got != 200 {
		t.Errorf("another session of the same person is answered %d", got)
	}
	theirs.want(t, 1)
	cancel()
	theirs.want(t, 0)
	after := r.settled(t, before)
	t.Logf("after:  %v", after)
	if grown := after.heap - before.heap; grown > left {
		t.Errorf("%.1f MiB more are in use than before, %.1f at most", mib(grown), mib(left))
	}
	if after.streams != 0 {
		t.Errorf("the program still counts %d streams", after.streams)
	}
}
