package portal

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/anteroom-proxy/anteroom/session"
)

// current finds the session of the request. Without one it answers: a person
// is sent to sign in and then to the page back of ours, a program gets 401. What
// a POST carried is not kept.
func (p *Portal) current(w http.ResponseWriter, r *http.Request, back string) *session.Session {
	s, err := p.sessions.Find(r.Header["Cookie"], r.Host)
	switch {
	case err == nil:
		return s
	case !errors.Is(err, session.ErrNone):
		p.showError(w, r, pageUnavailable, "", errorLinks{})
	case back != noPage && !isAPIClient(r) && r.Method == http.MethodPost:
		// Our form-action stops a form that ends at a provider or at the one portal; a link is not stopped.
		p.showError(w, r, pageNoSession, "", errorLinks{again: p.loginURL("", p.prefix+back)})
	case back != noPage && !isAPIClient(r):
		redirect(w, http.StatusFound, p.loginURL("", p.prefix+back))
	default:
		p.challenge(w)
		p.writeProblem(w, pageNoSession, "")
	}
	return nil
}

// noPage tells current that only programs ask here.
const noPage = "-"

// challenge names the place to sign in (RFC 9110, section 11.6.1).
func (p *Portal) challenge(w http.ResponseWriter) {
	w.Header().Set("WWW-Authenticate", `Anteroom uri="`+p.prefix+`login"`)
}

// who is the page about oneself.
func (p *Portal) who(w http.ResponseWriter, r *http.Request) {
	s := p.current(w, r, "")
	if s == nil {
		return
	}
	v := p.newView(r, "You are signed in")
	v.Who = p.whoView(s)
	v.Heading += " as " + v.Who.Name
	v.SwitchTo = p.prefix + "switch"
	v.Links = []link{{Href: p.prefix + "sessions", Text: "Show my devices"}}
	if !p.homeAlone || p.away(r) {
		v.Links = append(v.Links, link{Href: "/", Text: "Go to the application"})
	}
	v.Running = p.running(r, s)
	p.show(w, r, "who", http.StatusOK, v)
}

// session tells an application's script about the session. It is no use of
// the session: polling it does not keep an unattended workstation signed in. An
// application warns before the end so:
//
//	const r = await fetch("/.anteroom/session", {headers: {Accept: "application/json"}, cache: "no-store"});
//	if (r.status === 401) showSignedOut();
//	else if (r.ok) {
//		const s = await r.json();
//		if (Math.min(s.idle_seconds, s.absolute_seconds) < 120) showWarning(s);
//	}
//
// idle_seconds never says more than absolute_seconds: it is the earliest end. A
// request to the application itself, such as one for a small picture of it,
// moves it.
func (p *Portal) session(w http.ResponseWriter, r *http.Request) {
	s := p.current(w, r, noPage)
	if s == nil {
		return
	}
	now := p.now()
	answer := struct {
		Subject  string   `json:"sub"`
		Username string   `json:"preferred_username"`
		Name     string   `json:"name"`
		Roles    []string `json:"roles"`
		Groups   []string `json:"groups"`
		Source   string   `json:"idp"`
		AuthTime int64    `json:"auth_time"`        // Unix seconds, 0 when the provider did not tell
		Idle     int64    `json:"idle_seconds"`     // until the end when nothing more happens, the earliest there is
		Absolute int64    `json:"absolute_seconds"` // until the end whatever happens
	}{
		s.Subject, s.Username, s.Name, append([]string{}, s.Roles...), append([]string{}, s.Groups...), s.Source, unix(s.AuthTime),
		seconds(min(s.Expires.Sub(now), s.Ends.Sub(now))), seconds(s.Ends.Sub(now)),
	}
	body, err := json.Marshal(answer)
	if err != nil {
		p.log.Error("encoding session", "error", err)
		p.writeProblem(w, pageUnavailable, "")
		return
	}
	pageHeaders(w.Header())
	w.Header().Set("Content-Type", "application/json")
	w.Write(append(body, '\n'))
}

// whoView is a session in the words of a page.
type whoView struct {
	Name     string // display name, or the username
	Username string // empty when it says nothing new
	Roles    []string
	Source   string // title of the way to sign in
	Since    moment
	Ends     moment
	Idle     string // of this person's roles; empty when the session ends before that anyway
	Whole    string // from signing in to the end, of this person's roles
}

type moment struct {
	Machine string // RFC 3339
	Clock   string // in the server's time zone, with its name
	Span    string // from or until now
}

func (p *Portal) whoView(s *session.Session) *whoView {
	v := &whoView{Name: s.Name, Username: s.Username, Roles: s.Roles, Source: p.sourceTitle(s.Source), Whole: span(s.Ends.Sub(s.Started))}
	if v.Name == "" || v.Name == v.Username {
		v.Name, v.Username = s.Username, ""
	}
	now := p.now()
	v.Since = newMoment(s.Started, now.Sub(s.Started))
	v.Ends = newMoment(s.Ends, s.Ends.Sub(now))
	if s.Expires.Before(s.Ends) {
		v.Idle = span(s.Expires.Sub(s.IssuedAt))
	}
	return v
}

// sourceTitle is a way to sign in as people know it.
func (p *Portal) sourceTitle(name string) string {
	if src := p.source(name); src != nil && src.Title() != "" {
		return src.Title()
	}
	return name
}

func newMoment(t time.Time, d time.Duration) moment {
	return moment{
		Machine: t.UTC().Format(time.RFC3339),
		Clock:   t.Local().Format("2 January 2006, 15:04 MST"),
		Span:    span(d),
	}
}

// span says a duration as people do, to the minute.
func span(d time.Duration) string {
	minutes := int64(d.Round(time.Minute) / time.Minute)
	hours := minutes / 60
	minutes %= 60
	switch {
	case hours <= 0 && minutes <= 0:
		return "less than a minute"
	case hours == 0:
		return count(minutes, "minute")
	case minutes == 0:
		return count(hours, "hour")
	}
	return count(hours, "hour") + " " + count(minutes, "minute")
}

func count(n int64, unit string) string {
	if n == 1 {
		return "1 " + unit
	}
	return fmt.Sprintf("%d %ss", n, unit)
}

func unix(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

func seconds(d time.Duration) int64 { return max(0, int64(d/time.Second)) }
