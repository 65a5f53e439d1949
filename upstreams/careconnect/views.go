package careconnect

import (
	"net/http"
	"slices"
	"time"

	"github.com/anteroom-proxy/anteroom/upstreams/synthetic"
)

// home shows who is cared for here and what comes next.
func (a *app) home(w http.ResponseWriter, r *http.Request) error {
	next := a.appointments("")
	next = slices.DeleteFunc(next, func(o Appointment) bool { return o.Status != "booked" || !o.At.After(a.now()) })
	return a.Render(w, r, synthetic.Page{Name: "home", Title: "Welcome to CareConnect", Data: map[string]any{
		"Patients": synthetic.PatientsByName(), "Next": next[:min(8, len(next))]}})
}

// patient shows the appointments and messages of one patient.
func (a *app) patient(w http.ResponseWriter, r *http.Request) error {
	p, err := synthetic.NeedPatient(r.PathValue("id"), http.StatusNotFound)
	if err != nil {
		return err
	}
	now := a.now().UTC()
	return a.Render(w, r, synthetic.Page{Name: "patient", Title: p.Given + " " + p.Family, Data: map[string]any{
		"Patient": p, "Appointments": a.appointments(p.ID), "Messages": a.messages(p.ID), "Clinicians": synthetic.Clinicians(),
		"Now": now, "Min": now.Format(synthetic.Minute), "Max": now.AddDate(1, 0, 0).Format(synthetic.Minute)}})
}

// appointments returns those of one patient, or all, in order of time.
func (a *app) appointments(patient string) []Appointment {
	list := []Appointment{}
	for _, o := range a.state.View().Appointments {
		if patient == "" || o.Patient == patient {
			list = append(list, o)
		}
	}
	slices.SortStableFunc(list, func(x, y Appointment) int { return x.At.Compare(y.At) })
	return list
}

// messages returns those of one patient, the newest first.
func (a *app) messages(patient string) []Message {
	list := []Message{}
	for _, m := range a.state.View().Messages {
		if m.Patient == patient {
			list = append(list, m)
		}
	}
	slices.SortStableFunc(list, func(x, y Message) int { return y.At.Compare(x.At) })
	return list
}

// forms registers what the pages send.
func (a *app) forms() {
	a.Form("/patients/{id}/appointments", func(r *http.Request) (string, error) {
		n, err := a.book(r.PathValue("id"), r.PostForm.Get("clinician"), r.PostForm.Get("at"), r.PostForm.Get("reason"))
		return "/patients/" + n.Patient + "?done=booked", err
	})
	a.Form("/patients/{id}/appointments/{appointment}/cancel", func(r *http.Request) (string, error) {
		n, err := a.cancel(r.PathValue("id"), r.PathValue("appointment"))
		return "/patients/" + n.Patient + "?done=cancelled", err
	})
	a.Form("/patients/{id}/messages", func(r *http.Request) (string, error) {
		n, err := a.send(r.PathValue("id"), r.PostForm.Get("subject"), r.PostForm.Get("text"))
		return "/patients/" + n.Patient + "?done=sent", err
	})
}

// api registers the JSON API. The PIN is not part of it.
func (a *app) api() {
	type booking struct {
		Clinician string `json:"clinician"`
		At        string `json:"at"`
		Reason    string `json:"reason"`
	}
	type letter struct {
		Subject string `json:"subject"`
		Text    string `json:"text"`
	}
	a.Read("/api/{$}", func(*http.Request) (any, error) {
		return synthetic.Index{App: "careconnect",
			Reads: []string{"/api/patients", "/api/appointments", "/api/patients/{id}/appointments", "/api/patients/{id}/messages"},
			Writes: []synthetic.Write{
				{Path: "/api/patients/{id}/appointments", Example: booking{synthetic.Clinicians()[0], a.free(), "Check-up"}},
				{Path: "/api/patients/{id}/appointments/{appointment}/cancel", Example: struct{}{}},
				{Path: "/api/patients/{id}/messages", Example: letter{"A question", "When are you open?"}},
			}}, nil
	})
	a.Read("/api/patients", func(*http.Request) (any, error) { return synthetic.Patients(), nil })
	a.Read("/api/appointments", func(*http.Request) (any, error) { return a.appointments(""), nil })
	a.Read("/api/patients/{id}/appointments", func(r *http.Request) (any, error) {
		p, err := synthetic.NeedPatient(r.PathValue("id"), http.StatusNotFound)
		return a.appointments(p.ID), err
	})
	a.Read("/api/patients/{id}/messages", func(r *http.Request) (any, error) {
		p, err := synthetic.NeedPatient(r.PathValue("id"), http.StatusNotFound)
		return a.messages(p.ID), err
	})
	synthetic.Create(a.Site, "/api/patients/{id}/appointments", synthetic.FormLimit, func(r *http.Request, in booking) (string, any, error) {
		n, err := a.book(r.PathValue("id"), in.Clinician, in.At, in.Reason)
		return "/api/patients/" + n.Patient + "/appointments", n, err
	})
	synthetic.Create(a.Site, "/api/patients/{id}/appointments/{appointment}/cancel", synthetic.FormLimit, func(r *http.Request, in struct{}) (string, any, error) {
		n, err := a.cancel(r.PathValue("id"), r.PathValue("appointment"))
		return "", n, err
	})
	synthetic.Create(a.Site, "/api/patients/{id}/messages", synthetic.FormLimit, func(r *http.Request, in letter) (string, any, error) {
		n, err := a.send(r.PathValue("id"), in.Subject, in.Text)
		return "/api/patients/" + n.Patient + "/messages", n, err
	})
}

// free returns a time three months ahead at which nothing is booked yet.
func (a *app) free() string {
	at := a.now().UTC().AddDate(0, 3, 0).Truncate(24 * time.Hour).Add(9 * time.Hour)
	for slices.ContainsFunc(a.state.View().Appointments, func(o Appointment) bool { return o.At.Equal(at) }) {
		at = at.Add(10 * time.Minute)
	}
	return at.Format(synthetic.Minute)
}

// State returns the word that the pages show for an appointment.
func (o Appointment) State(now time.Time) string {
	if o.Status == "booked" && !o.At.After(now) {
		return "over"
	}
	return o.Status
}
