package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/anteroom-proxy/anteroom/envelope"
	"github.com/anteroom-proxy/anteroom/gate"
	"github.com/anteroom-proxy/anteroom/store"
	"github.com/caddyserver/caddy/v2"
)

// A start while the KMS does not answer is not refused: every site of the machine would be down, also those that need no key.
// What needs the master key answers 503 and begins as soon as the KMS answers, without a restart. Never does anything take the
// key's place, and a ring is made only where the store has none, by the same call as at any start.
//
// Waiting is for a master that is away (network, throttling, a fault of AWS). A master that refuses (no permission, a disabled
// or unknown key, credentials that are not good) is a mistake that waiting does not mend: the config does not load and the
// message says what to do. While something waits already every error waits: the operator mends it and no site goes down for it.
//
// A reload never waits, unless what it replaces waits too: what runs goes on, and the one who reloads reads the message.

// away reports whether time alone may heal an error of a master key. A store that is away is none of it.
func away(err error) bool {
	return errors.Is(err, envelope.ErrUnavailable) && !errors.Is(err, envelope.ErrRefused) && !errors.Is(err, store.ErrUnavailable)
}

const (
	firstWait, longestWait = time.Second, 15 * time.Second
	// sayAgain is how often the log tells that something still waits.
	sayAgain = time.Minute
	// awayRetry is what callers are told to wait.
	awayRetry = "10"
	// letGo is how long a config that ends waits for a try that is under way.
	letGo = time.Second
)

// waiting tries in the background to begin what could not be begun. The zero value waits for nothing.
type waiting struct {
	mu   sync.Mutex // guards the fields below
	why  error      // of the last try; nil: nothing waits
	stop context.CancelFunc
	done chan struct{}
}

// begin goes on trying, with growing pauses, until try succeeds or end is called.
func (w *waiting) begin(what string, why error, log *slog.Logger, try func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	w.mu.Lock()
	w.why, w.stop, w.done = why, cancel, done
	w.mu.Unlock()
	log.Error("the master key cannot be reached: "+what+" answers 503 until it can; it is tried again, no restart is needed", "error", why)
	go func() {
		defer close(done)
		defer cancel()
		w.try(ctx, what, log, try)
	}()
}

func (w *waiting) try(ctx context.Context, what string, log *slog.Logger, try func() error) {
	since, said := time.Now(), time.Now()
	for pause := firstWait; ; pause = min(2*pause, longestWait) {
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		err := try()
		w.mu.Lock()
		w.why = err
		w.mu.Unlock()
		if err == nil {
			log.Info("the master key can be reached: "+what+" begins", "waited", time.Since(since).Round(time.Second).String())
			return
		}
		if time.Since(said) >= sayAgain {
			said = time.Now()
			log.Error("the master key still cannot be reached: "+what+" answers 503", "since", since.UTC().Format(time.RFC3339), "error", err)
		}
	}
}

// reason is why it waits, nil when it does not.
func (w *waiting) reason() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.why
}

// end stops the trying and runs then when no try is under way any more. A try that hangs at a KMS that does not answer keeps
// nobody: then runs a little later.
func (w *waiting) end(then func()) {
	w.mu.Lock()
	stop, done := w.stop, w.done
	w.mu.Unlock()
	if done == nil {
		then()
		return
	}
	stop()
	timer := time.NewTimer(letGo)
	defer timer.Stop()
	select {
	case <-done:
		then()
	case <-timer.C:
		go func() {
			<-done
			then()
		}()
	}
}

// mayWait reports whether a start that finds its master away may wait: when it replaces nothing that works.
func mayWait() bool {
	ctx := caddy.ActiveContext() // in Start still the config that is replaced
	if ctx.Context == nil {
		return true
	}
	v, err := ctx.AppIfConfigured("anteroom")
	if err != nil {
		return false
	}
	return v.(*App).waiting.reason() != nil
}

// errAway is what the admin API answers meanwhile.
func errAway(why error) error {
	return &adminProblem{http.StatusServiceUnavailable, "unavailable", "Anteroom waits for its master key, and begins by itself when it can be reached. " + why.Error()}
}

// answerAway answers a request for a site that waits for the master key.
func answerAway(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Retry-After", awayRetry)
	if gate.IsAPIClient(r) {
		gate.WriteProblem(w, http.StatusServiceUnavailable, "unavailable", "the gate waits for its master key", "")
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(http.StatusServiceUnavailable)
	_, _ = fmt.Fprintln(w, strings.Join([]string{
		"This application cannot be reached at the moment.", "",
		"The sign-in waits for a service that it needs. Nothing is wrong with your account.", "Please try again in a few minutes, or call your help desk.",
	}, "\n"))
}
