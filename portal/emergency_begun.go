package portal

import (
	"context"
	"errors"
	"html"
	"html/template"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/anteroom-proxy/anteroom/emergency"
	"github.com/anteroom-proxy/anteroom/session"
)

// begunView is an emergency access that runs, in the words of a page.
type begunView struct {
	ID      string // the reference number
	Patient string
	Drill   bool
	Page    string // the path, for a rule that is about no one patient
	Until   moment // Clock is the time of day
	Open    string // address of the record; empty where it is not known
}

// Href is Open as an attribute, byte for byte: the template would spell a quote or a
// parenthesis of a link anew, and the access is for the path as it was sent.
func (v begunView) Href() template.HTMLAttr {
	return template.HTMLAttr(`href="` + html.EscapeString(v.Open) + `"`)
}

// running are the emergency accesses of this session on this site.
func (p *Portal) running(r *http.Request, s *session.Session) (list []begunView) {
	if !p.offersEmergency() {
		return nil
	}
	now := p.now()
	for _, a := range p.emergency.Active(r.Context(), r.Header["Cookie"], s.ID, s.Audience, now) {
		list = append(list, newBegun(a, now))
	}
	return list
}

// runningFor is the one that a page opened earlier and that still covers it.
func (p *Portal) runningFor(r *http.Request, s *session.Session, scope, target string) *begunView {
	for _, v := range p.running(r, s) {
		if v.Page == scope {
			v.Open = target
			return &v
		}
	}
	return nil
}

func newBegun(a emergency.Active, now time.Time) begunView {
	until := a.Until.Local()
	v := begunView{ID: a.ID, Patient: a.Patient, Drill: a.Drill, Page: a.Scope, Until: newMoment(a.Until, a.Until.Sub(now))}
	v.Until.Clock = until.Format("15:04 MST")
	if n := now.Local(); until.YearDay() != n.YearDay() || until.Year() != n.Year() {
		v.Until.Clock = until.Format("2 January, 15:04 MST")
	}
	return v
}

// begunURL is the address of the page that says that an access runs. It names the record
// of it only: what the page says is read from the browser's own sealed cookie, so that no
// address makes up an emergency.
func (p *Portal) begunURL(id, target string) string {
	return p.prefix + "emergency/begun?" + url.Values{"id": {id}, fieldTarget: {target}}.Encode()
}

// emergencyBegun is the page before the record: nobody opens it without having been told
// what that means.
func (p *Portal) emergencyBegun(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	target := q.Get(fieldTarget)
	s := p.glassSession(w, r, target)
	if s == nil {
		return
	}
	for _, v := range p.running(r, s) {
		if v.ID != q.Get("id") {
			continue
		}
		if v.Open = v.Page; p.glassTarget(target) && within(target, v.Page) {
			v.Open = target
		}
		page := p.newView(r, "You are in emergency access")
		page.Running = []begunView{v}
		p.show(w, r, "begun", http.StatusOK, page)
		return
	}
	p.showError(w, r, pageGlassOver, "", errorLinks{home: true})
}

// within reports whether an address lies at a scope or below it, in whole segments.
func within(target, scope string) bool {
	path, _, _ := strings.Cut(target, "?")
	rest, ok := strings.CutPrefix(path, strings.TrimSuffix(scope, "/"))
	return ok && (rest == "" || rest[0] == '/')
}

// endEmergency ends one emergency access before its time.
func (p *Portal) endEmergency(w http.ResponseWriter, r *http.Request) {
	if !fromOurPage(r) {
		p.foreignEmergency(w, r)
		return
	}
	form, bad := readForm(w, r, "id")
	if bad != nil {
		p.showError(w, r, bad, "", errorLinks{})
		return
	}
	s := p.current(w, r, "")
	if s == nil {
		return
	}
	// An empty id would be all of them.
	err := emergency.ErrNotFound
	var set *http.Cookie
	if form["id"] != "" {
		set, err = p.emergency.End(context.WithoutCancel(r.Context()), p.glassEnd(r, s, form["id"]))
	}
	text := "The record is closed to you again. What you opened was recorded and will be reviewed."
	switch {
	case errors.Is(err, emergency.ErrNotFound):
		text = "It had ended already."
	case err != nil:
		p.log.Error("emergency access not ended", "error", err)
		p.showError(w, r, pageGlassNotEnded, "", errorLinks{retry: p.prefix})
		return
	}
	if set != nil {
		http.SetCookie(w, set)
	}
	clearCache(w) // of what the application showed
	v := p.newView(r, "Emergency access has ended")
	v.Text = []string{text}
	v.Links = []link{{Href: "/", Text: "Go to the application", Main: true}, {Href: p.prefix, Text: "Show my sign-in"}}
	p.show(w, r, "notice", http.StatusOK, v)
}

func (p *Portal) glassEnd(r *http.Request, s *session.Session, id string) emergency.End {
	return emergency.End{
		ID: id, Session: s.ID, Site: s.Audience, Cookies: r.Header["Cookie"],
		Who: emergency.Who{Source: s.Source, Subject: s.Subject, Username: s.Username, Roles: s.Roles, Client: p.client(r)},
	}
}

// endEmergencies writes the end of what runs when the person signs out. It is over with
// the session in any case.
func (p *Portal) endEmergencies(r *http.Request, s *session.Session) {
	if !p.offersEmergency() || !hasCookie(r, emergency.CookieName) {
		return
	}
	_, err := p.emergency.End(context.WithoutCancel(r.Context()), p.glassEnd(r, s, ""))
	if err != nil && !errors.Is(err, emergency.ErrNotFound) {
		p.log.Warn("the end of an emergency access is not recorded; it is over with the session", "error", err)
	}
}
