package caddymodule

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/anteroom-proxy/anteroom/audit"
	"github.com/anteroom-proxy/anteroom/gate"
	"github.com/anteroom-proxy/anteroom/session"
	"github.com/anteroom-proxy/anteroom/store"
	"github.com/caddyserver/caddy/v2"
)

func init() { caddy.RegisterModule(&AdminAPI{}) }

// AdminAPI is the part of Caddy's admin API that is about sessions, keys and emergency accesses. It has no configuration: it is there when the
// admin listener is, and answers only on this host (admin_guard.go).
//
//	GET  /anteroom/sessions[?user=NAME]   {"sessions":[SESSION…]}, newest first
//	POST /anteroom/sessions/end           {"id":ID} → {"ended":1}; 404 when no such session lives
//	POST /anteroom/sessions/end-user      {"username":NAME} or {"source":S,"subject":SUB} → {"ended":N}
//	GET  /anteroom/keys                   {"keys":[KEY…]}
//	POST /anteroom/keys/rotate            {} → {"keys":[KEY…]}
//	POST /anteroom/keys/kill              {"kid":KID} → {"keys":[KEY…]}; 404 when there is no such key
//	GET  /anteroom/keys/status …          see admin_rekey.go
//	GET  /anteroom/reviews[?state=STATE]  {"reviews":[REVIEW…]}, oldest first; STATE is open (the default), accepted, rejected or all
//	POST /anteroom/reviews/accept         {"id":ID,"reviewer":NAME,"comment":TEXT} → REVIEW; 409 when it is reviewed already
//	POST /anteroom/reviews/reject         the same; the comment is required
//	GET  /anteroom/rings…                 see admin_ring.go
//	GET  /anteroom/health                 see healthReport; 200 or 503
//
// A session is named by its label, the one in the audit log (audit.SessionLabel): whoever reads an answer cannot open a
// session with it. Every change is in the audit log before it is made; without the record there is no change (503).
// Errors are problem+json (RFC 9457).
type AdminAPI struct{}

// CaddyModule returns the module's information.
func (*AdminAPI) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "admin.api.anteroom", New: func() caddy.Module { return new(AdminAPI) }}
}

// Routes hangs everything below one path.
func (*AdminAPI) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{{Pattern: adminPath, Handler: caddy.AdminHandlerFunc(serveAdmin)}}
}

const (
	adminPath    = "/anteroom/"
	adminTimeout = 8 * time.Second // below the 10 s that Caddy gives an old admin listener at a reload
	adminBody    = 16 << 10
)

// roster is what the admin API does with sessions and keys; *session.Manager is the one.
type roster interface {
	AllSessions(ctx context.Context) ([]session.Info, error)
	Revoke(ctx context.Context, sid string) error
	RevokeUser(ctx context.Context, u session.User) (int, error)
	Keys() []session.KeyInfo
	RotateKeys(ctx context.Context) error
	KillKey(ctx context.Context, kid string) error
}

// desk is what one request works with.
type desk struct {
	sessions roster
	audit    audit.Recorder
	asker    string // "unix" or the loopback address
	r        *http.Request
	reviews  reviewBook
	keys     keyDesk
}

// adminRoutes are the paths below adminPath, health apart: it answers while nothing runs, too.
var adminRoutes = map[string]struct {
	method string
	do     func(desk, context.Context) (any, error)
}{
	"sessions":          {http.MethodGet, desk.listSessions},
	"sessions/end":      {http.MethodPost, desk.endSession},
	"sessions/end-user": {http.MethodPost, desk.endUser},
	"keys":              {http.MethodGet, desk.listKeys},
	"keys/rotate":       {http.MethodPost, desk.rotateKeys},
	"keys/kill":         {http.MethodPost, desk.killKey},
	"keys/status":       {http.MethodGet, desk.keyStatus},
	"keys/operation":    {http.MethodGet, desk.keyOperation},
	"keys/begin":        {http.MethodPost, desk.beginKeys},
	"keys/compromised":  {http.MethodPost, desk.compromisedKey},
	"keys/destroy":      {http.MethodPost, desk.destroyKey},
	"keys/client":       {http.MethodPost, desk.rotateClient},
	"keys/reports":      {http.MethodGet, desk.keyReports},
	"keys/report":       {http.MethodGet, desk.keyReport},
	"reviews":           {http.MethodGet, desk.listReviews},
	"reviews/accept":    {http.MethodPost, desk.acceptReview},
	"reviews/reject":    {http.MethodPost, desk.rejectReview},
}

// serveAdmin answers one request. It keeps nothing: after a reload that failed, Caddy's admin listener goes on with the
// router of the config that did not come to run.
func serveAdmin(w http.ResponseWriter, r *http.Request) error {
	answer, status, err := adminAnswer(w, r)
	if err != nil {
		p := problemOf(err)
		if p.status == http.StatusServiceUnavailable {
			w.Header().Set("Retry-After", "1")
		}
		gate.WriteProblem(w, p.status, p.kind, p.detail, "")
		return nil
	}
	body, err := json.Marshal(answer)
	if err != nil {
		return fmt.Errorf("encoding an answer of the admin API: %w", err)
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n'))
	return nil
}

func adminAnswer(w http.ResponseWriter, r *http.Request) (answer any, status int, err error) {
	asker, no := askerOf(r)
	if no != nil {
		return nil, 0, no
	}
	name := strings.TrimPrefix(r.URL.Path, adminPath)
	route, known := adminRoutes[name]
	if name == "health" {
		known, route.method = true, http.MethodGet
	}
	switch {
	case !known:
		return nil, 0, &adminProblem{http.StatusNotFound, "not-found", "The admin API of anteroom has no such path."}
	case r.Method != route.method:
		w.Header().Set("Allow", route.method)
		return nil, 0, &adminProblem{http.StatusMethodNotAllowed, "method", "Use " + route.method + " here."}
	case r.Method == http.MethodPost:
		if no := wantJSON(r); no != nil {
			return nil, 0, no
		}
		r.Body = http.MaxBytesReader(w, r.Body, bodyLimit(name))
	}
	run, leave, err := entrance(name)()
	if leave != nil {
		defer leave()
	}
	if name == "health" {
		report := health(run, err)
		return report, report.httpStatus(), nil
	}
	if err != nil {
		return nil, 0, err
	}
	// A change that has begun is finished when the asker hangs up.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), adminTimeout)
	defer cancel()
	answer, err = route.do(desk{run.sessions, run.audit, asker, r, run.emergency, run.keys}, ctx)
	return answer, http.StatusOK, err
}

var (
	errNotConfigured = &adminProblem{http.StatusNotFound, "not-configured", "The running config has no global option `anteroom`, no hmac_service and no envelope_service, so that there are no keys, sessions and reports to ask about. When it has `storage anteroom_redis` alone, write the bare line `anteroom` into the block of global options and reload."}
	errStarting      = &adminProblem{http.StatusServiceUnavailable, "unavailable", "Anteroom is starting or stopping; ask again in a moment."}
)

// enterRunning returns what the config that serves now works with, and keeps it open until leave is called: a reload in
// the meantime may give it back. It waits for no lock that a reload holds while it loads.
func enterRunning() (run *running, leave func(), err error) {
	ctx := caddy.ActiveContext()
	if ctx.Context == nil {
		return nil, nil, errStarting
	}
	v, err := ctx.AppIfConfigured("anteroom") // never App, which would make an empty one
	if err != nil {
		return nil, nil, errNotConfigured
	}
	app := v.(*App)
	run = app.live()
	if why := app.waiting.reason(); run == nil && why != nil {
		return nil, nil, errAway(why)
	}
	if run == nil || !app.guests.enter() {
		return nil, nil, errStarting
	}
	return run, app.guests.leave, nil
}

// problemOf is the one place where an error of the admin API becomes HTTP.
func problemOf(err error) *adminProblem {
	var p *adminProblem
	switch {
	case errors.As(err, &p):
		return p
	case errors.Is(err, audit.ErrUnavailable):
		return &adminProblem{http.StatusServiceUnavailable, "unavailable", "Nothing was changed: the audit log takes no record. " + err.Error()}
	case errors.Is(err, session.ErrStale), errors.Is(err, session.ErrClosed), errors.Is(err, store.ErrUnavailable), errors.Is(err, context.DeadlineExceeded):
		return &adminProblem{http.StatusServiceUnavailable, "unavailable", "It is not certain that this was done; ask again. " + err.Error()}
	}
	return &adminProblem{http.StatusInternalServerError, "internal", err.Error()}
}

// read takes the request's body: one JSON object, no unknown member.
func (d desk) read(into any) error {
	decoder := json.NewDecoder(d.r.Body)
	decoder.DisallowUnknownFields()
	err := decoder.Decode(into)
	if err == nil && !errors.Is(decoder.Decode(&struct{}{}), io.EOF) {
		err = errors.New("something stands behind it")
	}
	if err != nil {
		return badRequest("The body is not the JSON object that this path takes: " + err.Error())
	}
	return nil
}

func badRequest(detail string) error {
	return &adminProblem{http.StatusBadRequest, "bad-request", detail}
}

// change writes down what is about to be done, does it, and writes down when that failed. The record comes first: without
// one nothing is changed, and nobody is let in meanwhile either, since the gate needs the same log.
func (d desk) change(ctx context.Context, e audit.Event, do func() error) error {
	e.Kind, e.Ref, e.Decision = "admin", audit.NewRef(), "allowed"
	e.Method, e.Route, e.Client = d.r.Method, d.r.URL.Path, d.asker // the path is one of adminRoutes
	if err := d.audit.Record(ctx, e); err != nil {
		return fmt.Errorf("recording the change: %w", err)
	}
	err := do()
	if err != nil {
		e.Decision = "failed"
		_ = d.audit.Record(ctx, e) // the error that matters is the change's
	}
	return err
}

// sessionEntry is one SESSION of an answer. Times are RFC 3339.
type sessionEntry struct {
	ID       string    `json:"id"`      // its label in the audit log
	User     string    `json:"user"`    // the username, as apps see it
	Name     string    `json:"name"`    // of the person
	Source   string    `json:"source"`  // the way to sign in
	Subject  string    `json:"subject"` // the person's own name there
	Roles    []string  `json:"roles"`
	AMR      []string  `json:"amr"`   // how they signed in (RFC 8176)
	Sites    []string  `json:"sites"` // where it is in use
	Browser  string    `json:"browser"`
	System   string    `json:"system"`
	Since    time.Time `json:"since"`
	LastSeen time.Time `json:"last_seen"`
	IdleEnd  time.Time `json:"idle_end"` // unless it is used before
	Ends     time.Time `json:"ends"`     // in any case
}

type sessionList struct {
	Sessions []sessionEntry `json:"sessions"`
}

// ended is the answer to the end of sessions.
type ended struct {
	Ended int `json:"ended"`
}

func (d desk) listSessions(ctx context.Context) (any, error) {
	all, err := d.sessions.AllSessions(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing sessions: %w", err)
	}
	query := d.r.URL.Query()
	if len(query) > 1 || len(query) == 1 && len(query["user"]) != 1 {
		return nil, badRequest("The only parameter here is user, once.")
	}
	list := sessionList{Sessions: []sessionEntry{}}
	for _, s := range all {
		if !query.Has("user") || sameUsername(s.Username, query.Get("user")) {
			list.Sessions = append(list.Sessions, entryOf(s))
		}
	}
	slices.SortStableFunc(list.Sessions, func(a, b sessionEntry) int {
		return cmp.Or(b.Since.Compare(a.Since), strings.Compare(a.ID, b.ID))
	})
	return list, nil
}

// sameUsername compares as session.Manager.RevokeUser does, so that a list shows whom an end would hit.
func sameUsername(a, b string) bool {
	a, b = strings.ToLower(a), strings.ToLower(b) // not EqualFold, which knows more pairs
	return a == b
}

func entryOf(s session.Info) sessionEntry {
	return sessionEntry{
		ID: audit.SessionLabel(s.ID), User: s.Username, Name: s.Name, Source: s.Source, Subject: s.Subject,
		Roles: listed(s.Roles), AMR: listed(s.AMR), Sites: listed(s.Sites), Browser: s.Device.Browser, System: s.Device.System,
		Since: s.Started.UTC(), LastSeen: s.Seen.UTC(), IdleEnd: s.Expires.UTC(), Ends: s.Ends.UTC(),
	}
}

// listed is never null in JSON.
func listed(names []string) []string {
	if names == nil {
		return []string{}
	}
	return names
}

func (d desk) endSession(ctx context.Context) (any, error) {
	var want struct {
		ID string `json:"id"`
	}
	if err := d.read(&want); err != nil {
		return nil, err
	}
	all, err := d.sessions.AllSessions(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing sessions: %w", err)
	}
	i := slices.IndexFunc(all, func(s session.Info) bool { return want.ID != "" && audit.SessionLabel(s.ID) == want.ID })
	if i < 0 {
		return nil, &adminProblem{http.StatusNotFound, "not-found", "No session of that id lives; it may have ended meanwhile."}
	}
	s := all[i]
	event := audit.Event{Source: s.Source, Subject: s.Subject, Name: s.Username, Roles: s.Roles, Session: want.ID, Reason: "session-ended"}
	if err := d.change(ctx, event, func() error { return d.sessions.Revoke(ctx, s.ID) }); err != nil {
		return nil, fmt.Errorf("ending the session: %w", err)
	}
	return ended{1}, nil
}

func (d desk) endUser(ctx context.Context) (any, error) {
	var want struct {
		Username string `json:"username"`
		Source   string `json:"source"`
		Subject  string `json:"subject"`
	}
	if err := d.read(&want); err != nil {
		return nil, err
	}
	byName, byPair := want.Username != "", want.Source != "" && want.Subject != ""
	if byName == byPair || (want.Source != "") != (want.Subject != "") {
		return nil, badRequest("Name the person by username, or by source and subject together.")
	}
	all, err := d.sessions.AllSessions(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing sessions: %w", err)
	}
	event := audit.Event{Source: want.Source, Subject: want.Subject, Name: want.Username, Reason: "user-ended"}
	for _, s := range all {
		if byName && sameUsername(s.Username, want.Username) || byPair && s.Source == want.Source && s.Subject == want.Subject {
			event.Count++
		}
	}
	var n int
	err = d.change(ctx, event, func() error {
		n, err = d.sessions.RevokeUser(ctx, session.User{Source: want.Source, Subject: want.Subject, Username: want.Username})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("ending the person's sessions: %w", err)
	}
	return ended{n}, nil
}
