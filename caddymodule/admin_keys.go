package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/anteroom-proxy/anteroom/audit"
	"github.com/anteroom-proxy/anteroom/session"
)

// keyEntry is one KEY of an answer of the admin API. Nothing in it is secret: the key's name stands in every token that it
// signed. A zero time is left out.
type keyEntry struct {
	KID     string    `json:"kid"`
	Use     string    `json:"use"`   // session or assertion
	State   string    `json:"state"` // next, signing or retired
	Created time.Time `json:"created,omitzero"`
	Signs   time.Time `json:"signs,omitzero"` // from then on
	Until   time.Time `json:"until,omitzero"` // nothing verifies with it after that
}

type keyList struct {
	Keys []keyEntry `json:"keys"`
}

func (d desk) listKeys(context.Context) (any, error) {
	list := keyList{Keys: []keyEntry{}}
	for _, k := range d.sessions.Keys() {
		list.Keys = append(list.Keys, keyEntry{k.KID, k.Use, k.State, k.Created.UTC(), k.Signs.UTC(), k.Until.UTC()})
	}
	return list, nil
}

func (d desk) rotateKeys(ctx context.Context) (any, error) {
	if err := d.read(&struct{}{}); err != nil {
		return nil, err
	}
	if err := d.change(ctx, audit.Event{Reason: "keys-rotated"}, func() error { return d.sessions.RotateKeys(ctx) }); err != nil {
		return nil, fmt.Errorf("rotating the signing keys: %w", err)
	}
	return d.listKeys(ctx)
}

func (d desk) killKey(ctx context.Context) (any, error) {
	var want struct {
		KID string `json:"kid"`
	}
	if err := d.read(&want); err != nil {
		return nil, err
	}
	kid, problem := d.keyNamed(want.KID)
	if problem != nil {
		return nil, problem
	}
	if err := d.change(ctx, audit.Event{Rule: "key " + kid, Reason: "key-killed"}, func() error { return d.sessions.KillKey(ctx, kid) }); err != nil {
		return nil, fmt.Errorf("killing the key: %w", err)
	}
	return d.listKeys(ctx)
}

// keyNamed finds the one key of that name, or whose name begins with these eight or more characters.
func (d desk) keyNamed(name string) (kid string, problem error) {
	found := 0
	for _, k := range d.sessions.Keys() {
		if k.KID == name || len(name) >= 8 && strings.HasPrefix(k.KID, name) {
			kid = k.KID
			found++
		}
	}
	switch found {
	case 0:
		return "", &adminProblem{http.StatusNotFound, "not-found", "There is no signing key of that name."}
	case 1:
		return kid, nil
	}
	return "", &adminProblem{http.StatusConflict, "ambiguous", "Several signing keys begin with that; give more of the name."}
}

// healthReport is the answer of GET /anteroom/health, for load balancers and monitors on this host: 200 when status is ok,
// 503 otherwise. The counts are of this node; none of it needs the store.
type healthReport struct {
	// ok; stale: the store was silent for too long to know who was revoked; clock: this node's clock and the store's
	// differ too much; starting: nothing runs yet, or any more; master-away: the master key cannot be reached, Detail says
	// why; not-configured: the config has no `anteroom`.
	Status      string  `json:"status"`
	Detail      string  `json:"detail,omitempty"`
	StoreSilent float64 `json:"store_silent_seconds"`
	ClockSkew   float64 `json:"clock_skew_seconds"` // the store's clock less this node's
	Sessions    int     `json:"sessions"`
	Streams     int     `json:"streams"`
	Revocations int     `json:"revocations"`
	Verified    int     `json:"verified_tokens"`
	SigningKey  string  `json:"signing_key"` // the name of the key that signs sessions
}

// The values of healthReport.Status.
const (
	healthOK            = "ok"
	healthStale         = "stale"
	healthClock         = "clock"
	healthStarting      = "starting"
	healthMasterAway    = "master-away"
	healthNotConfigured = "not-configured"
)

// clockTolerance is the difference to the store's clock above which the session manager lets nobody in.
const clockTolerance = 30 * time.Second

func (h healthReport) httpStatus() int {
	if h.Status == healthOK {
		return http.StatusOK
	}
	return http.StatusServiceUnavailable
}

// healthOf judges the state of a session manager.
func healthOf(h session.Health, keys []session.KeyInfo) healthReport {
	report := healthReport{
		Status: healthOK, StoreSilent: h.Silence.Seconds(), ClockSkew: h.Skew.Seconds(),
		Sessions: h.Sessions, Streams: h.Watchers, Revocations: h.Revocations, Verified: h.CachedTokens,
	}
	for _, k := range keys {
		if k.Use == "session" && k.State == session.KeySigning {
			report.SigningKey = k.KID
		}
	}
	switch {
	case !h.Running:
		report.Status = healthStarting
	case h.Skew.Abs() > clockTolerance:
		report.Status = healthClock
	case h.Stale:
		report.Status = healthStale
	}
	return report
}

// health answers also while there is nothing to ask; err is why.
func health(run *running, err error) healthReport {
	switch {
	case err == nil:
		return healthOf(run.sessions.Health(), run.sessions.Keys())
	case errors.Is(err, error(errNotConfigured)):
		return healthReport{Status: healthNotConfigured}
	case !errors.Is(err, error(errStarting)):
		return healthReport{Status: healthMasterAway, Detail: err.Error()}
	}
	return healthReport{Status: healthStarting}
}
