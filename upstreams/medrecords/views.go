package medrecords

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/anteroom-proxy/anteroom/upstreams/synthetic"
)

// Chart is all that is known of one patient, the newest first.
type Chart struct {
	Patient      synthetic.Patient `json:"patient"`
	Allergies    []Allergy         `json:"allergies"`
	Encounters   []Encounter       `json:"encounters"`
	Observations []Observation     `json:"observations"`
}

func (a *app) chart(id string) (Chart, error) {
	p, err := synthetic.NeedPatient(id, http.StatusNotFound)
	if err != nil {
		return Chart{}, err
	}
	r := a.state.View()
	return Chart{p,
		of(id, r.Allergies, func(o Allergy) (string, time.Time) { return o.Patient, o.At }),
		of(id, r.Encounters, func(o Encounter) (string, time.Time) { return o.Patient, o.At }),
		of(id, r.Observations, func(o Observation) (string, time.Time) { return o.Patient, o.At })}, nil
}

// of picks the entries of one patient, the newest first; among equals the one
// that was added last.
func of[T any](patient string, all []T, key func(T) (string, time.Time)) []T {
	list := []T{}
	for _, o := range slices.Backward(all) {
		if p, _ := key(o); p == patient {
			list = append(list, o)
		}
	}
	slices.SortStableFunc(list, func(x, y T) int {
		_, s := key(x)
		_, t := key(y)
		return t.Compare(s)
	})
	return list
}

// search finds patients by a part of the name, or by identifier.
func search(q string) []synthetic.Patient {
	q = strings.ToLower(strings.TrimSpace(q))
	return slices.DeleteFunc(synthetic.PatientsByName(), func(p synthetic.Patient) bool {
		return !strings.Contains(strings.ToLower(p.Name()), q) && !strings.Contains(strings.ToLower(p.Given+" "+p.Family), q) && p.ID != q
	})
}

// routes registers the pages and what they send.
func (a *app) routes() {
	a.Handle("GET /{$}", a.list)
	a.Handle("GET /patients", a.list)
	a.Handle("GET /patients/{id}", func(w http.ResponseWriter, r *http.Request) error {
		c, err := a.chart(r.PathValue("id"))
		if err != nil {
			return err
		}
		return a.Render(w, r, synthetic.Page{Name: "chart", Title: c.Patient.Name(), Data: map[string]any{"Chart": c,
			"Clinicians": synthetic.Clinicians(), "Diagnoses": synthetic.Diagnoses(), "Measures": synthetic.Measures(), "Severities": severities}})
	})
	a.Form("/patients/{id}/encounters", func(r *http.Request) (string, error) {
		f := r.PostForm
		n, err := a.addEncounter(r.PathValue("id"), visit{f.Get("clinician"), f.Get("diagnosis"), f.Get("note")})
		return "/patients/" + n.Patient + "?done=encounter", err
	})
	a.Form("/patients/{id}/allergies", func(r *http.Request) (string, error) {
		f := r.PostForm
		n, err := a.addAllergy(r.PathValue("id"), reaction{f.Get("substance"), f.Get("reaction"), f.Get("severity")})
		return "/patients/" + n.Patient + "?done=allergy", err
	})
	a.Form("/patients/{id}/observations", func(r *http.Request) (string, error) {
		v, err := strconv.ParseFloat(strings.TrimSpace(r.PostForm.Get("value")), 64)
		if err != nil {
			return "", synthetic.Refuse(http.StatusUnprocessableEntity, "Please give the value as a number, like 36.8.")
		}
		n, err := a.addObservation(r.PathValue("id"), value{r.PostForm.Get("code"), v})
		return "/patients/" + n.Patient + "?done=observation", err
	})
}

// list is the home page.
func (a *app) list(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query().Get("q")
	return a.Render(w, r, synthetic.Page{Name: "patients", Title: "Patients", Data: map[string]any{"Patients": search(q), "Query": q}})
}

// api registers the JSON API.
func (a *app) api() {
	a.Read("/api/{$}", func(*http.Request) (any, error) {
		return synthetic.Index{App: "medrecords",
			Reads: []string{"/api/patients", "/api/patients/{id}", "/api/patients/{id}/encounters", "/api/patients/{id}/allergies", "/api/patients/{id}/observations"},
			Writes: []synthetic.Write{
				{Path: "/api/patients/{id}/observations", Example: value{"8867-4", 72}},
				{Path: "/api/patients/{id}/encounters", Example: visit{synthetic.Clinicians()[0], "I10", "Blood pressure under control."}},
				{Path: "/api/patients/{id}/allergies", Example: reaction{"Strawberry", "Rash", "mild"}},
			}}, nil
	})
	a.Read("/api/patients", func(r *http.Request) (any, error) { return search(r.URL.Query().Get("q")), nil })
	a.Read("/api/patients/{id}", func(r *http.Request) (any, error) { return a.chart(r.PathValue("id")) })
	a.Read("/api/patients/{id}/encounters", func(r *http.Request) (any, error) {
		c, err := a.chart(r.PathValue("id"))
		return c.Encounters, err
	})
	a.Read("/api/patients/{id}/allergies", func(r *http.Request) (any, error) {
		c, err := a.chart(r.PathValue("id"))
		return c.Allergies, err
	})
	a.Read("/api/patients/{id}/observations", func(r *http.Request) (any, error) {
		c, err := a.chart(r.PathValue("id"))
		return c.Observations, err
	})
	synthetic.Create(a.Site, "/api/patients/{id}/encounters", synthetic.FormLimit, func(r *http.Request, in visit) (string, any, error) {
		n, err := a.addEncounter(r.PathValue("id"), in)
		return "/api/patients/" + n.Patient + "/encounters", n, err
	})
	synthetic.Create(a.Site, "/api/patients/{id}/allergies", synthetic.FormLimit, func(r *http.Request, in reaction) (string, any, error) {
		n, err := a.addAllergy(r.PathValue("id"), in)
		return "/api/patients/" + n.Patient + "/allergies", n, err
	})
	synthetic.Create(a.Site, "/api/patients/{id}/observations", synthetic.FormLimit, func(r *http.Request, in value) (string, any, error) {
		n, err := a.addObservation(r.PathValue("id"), in)
		return "/api/patients/" + n.Patient + "/observations", n, err
	})
}
