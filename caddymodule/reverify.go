package caddymodule

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/anteroom-proxy/anteroom/portal"
	"github.com/anteroom-proxy/anteroom/session"
)

// pages are the portals that run, under the key of the sessions they work with, the newest last. A session manager outlives the
// config that opened it, and the ways to sign in change with each config: whoever is asked about a session again is the
// newest config's.
var pages = &pageTable{running: map[string][]page{}}

type pageTable struct {
	mu      sync.Mutex // guards running
	running map[string][]page
}

type page struct {
	app    *App
	portal *portal.Portal
}

// errNoPages: between two configs nobody can ask the provider. The session goes on as it was.
var errNoPages = errors.New("no config is running")

func (t *pageTable) add(key string, a *App, p *portal.Portal) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.running[key] = append(t.running[key], page{a, p})
}

// drop forgets the portals of an app that was stopped, or that never came to serve.
func (t *pageTable) drop(a *App) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for key, list := range t.running {
		if list = slices.DeleteFunc(list, func(p page) bool { return p.app == a }); len(list) == 0 {
			delete(t.running, key)
		} else {
			t.running[key] = list
		}
	}
}

// reverify is session.Config.Refresh for the sessions of that key.
func (t *pageTable) reverify(key string) func(context.Context, *session.Session, session.Kept) (session.Verdict, error) {
	return func(ctx context.Context, s *session.Session, k session.Kept) (session.Verdict, error) {
		t.mu.Lock()
		list := t.running[key]
		t.mu.Unlock()
		if len(list) == 0 {
			return session.Verdict{}, errNoPages
		}
		newest := list[len(list)-1]
		if !newest.app.guests.enter() {
			return session.Verdict{}, errNoPages
		}
		defer newest.app.guests.leave()
		return newest.portal.Reverify(ctx, s, k)
	}
}
