package caddymodule

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/anteroom-proxy/anteroom/gate"
	"github.com/anteroom-proxy/anteroom/policy"
	"github.com/anteroom-proxy/anteroom/portal"
	"github.com/anteroom-proxy/anteroom/session"
)

// checkGate builds the gate as Start will, so that a bad origin is found while the config loads.
func (s *Site) checkGate() error {
	if _, err := gate.New(s.gateConfig(&running{})); err != nil {
		return fmt.Errorf("%s: %w", siteAt(s), err)
	}
	return nil
}

func (s *Site) gateConfig(run *running) gate.Config {
	return gate.Config{
		Policy: s.policy, Sessions: run.sessions, Audit: run.audit, Prefix: s.app.Prefix,
		Portal: s.ownPages(run.portal), Deny: s.denyWith(run.portal), AllowOrigins: s.AllowOrigins,
		ClientAddr: clientAddr, Logger: s.logger,
		OnStoreLoss: time.Duration(s.OnStoreLoss), Assertion: s.Audience, NoAssertion: s.NoAssertion,
		Bearer: s.bearerOf(), Posted: s.app.posted,
		Emergency: run.emergency, Budget: run.budget, Counted: s.app.countedAs, Person: s.app.persons(), Alarm: run.alarm,
	}
}

// build makes the gate; the app calls it in Start, when everything is open.
func (s *Site) build(run *running) error {
	g, err := gate.New(s.gateConfig(run))
	if err != nil {
		return err
	}
	s.running.Store(&siteRunning{gate: g, run: run})
	degraded.add(g)
	return nil
}

// siteKey finds the site in the context of a request for our own pages: all sites share one portal.
type siteKey struct{}

// ownPages is the portal as this site hands requests to it.
func (s *Site) ownPages(p *portal.Portal) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), siteKey{}, s)))
	})
}

// breakGlass asks the policy of the request's site whether somebody may break the glass for a target on it.
func breakGlass(r *http.Request, who *session.Session, target string) (policy.Emergency, bool) {
	s, _ := r.Context().Value(siteKey{}).(*Site)
	if s == nil {
		return policy.Emergency{}, false
	}
	run := s.running.Load()
	if run == nil {
		return policy.Emergency{}, false
	}
	return run.gate.Emergency(r, who, target)
}

// contactOf says whom the request's site names for questions; empty: nobody of its own.
func contactOf(r *http.Request) string {
	if s, _ := r.Context().Value(siteKey{}).(*Site); s != nil {
		return s.Contact
	}
	return ""
}

// denyWith shows the portal's page for a refusal of the gate.
func (s *Site) denyWith(p *portal.Portal) func(http.ResponseWriter, *http.Request, gate.Outcome) {
	return func(w http.ResponseWriter, r *http.Request, o gate.Outcome) {
		p.Refuse(w, r, portal.Refusal{
			Kind: string(o.Kind), Status: o.Status, Ref: o.Ref, Session: o.Session, Missing: o.Missing, Emergency: o.Emergency,
			Contact: cmp.Or(s.Contact, s.app.Contact),
		})
	}
}
