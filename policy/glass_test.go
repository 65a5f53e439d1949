package policy

import "testing"

// TestGrantBehindOthers: what stands before the patient in a path makes no more of a grant than one patient.
func TestGrantBehindOthers(t *testing.T) {
	p := with(t, Config{Claims: []string{"clinic"}}, "allow role doctor /own", "break_glass role doctor on /wards/*/patients/{patient}/** /clinics/{clinic}/patients/{patient}/** /notes/{patient}/by/{author} /beds/*/{bed}/** /my/{claim.clinic}/{x}/** for 30m")
	doctor := person("doctor", func(s *Subject) { s.Claims = map[string]string{"clinic": "north"} })
	for _, c := range []struct{ path, scope, subject, same, other string }{
		{"/wards/3/patients/7/notes", "/wards/3/patients/7", "7", "/wards/3/patients/7/x", "/wards/3/patients/8/notes"},
		{"/clinics/a/patients/7", "/clinics/a/patients/7", "7", "/clinics/a/patients/7/x", "/clinics/a/patients/8"},
		{"/notes/7/by/ann", "/notes/7", "7", "/notes/7/by/bob", "/notes/8/by/ann"},
		{"/beds/1/2", "/beds/1/2", "2", "/beds/1/2/x", "/beds/1/3"},
		{"/my/north/7", "/my/north/7", "7", "/my/north/7/x", "/my/north/8"},
	} {
		e, ok := p.Emergency(get(t, p, doctor, c.path))
		if !ok || e.Scope != c.scope || e.Subject != c.subject {
			t.Errorf("%s: %t %+v", c.path, ok, e)
		}
		if !p.Break(get(t, p, doctor, c.same), e) || p.Break(get(t, p, doctor, c.other), e) {
			t.Errorf("%s: not for %s, or also for %s", c.path, c.same, c.other)
		}
	}
	// A grant that an earlier version gave for a whole ward is for nothing any more.
	old := Emergency{Rule: "break_glass role doctor on /wards/*/patients/{patient}/** /clinics/{clinic}/patients/{patient}/** /notes/{patient}/by/{author} /beds/*/{bed}/** /my/{claim.clinic}/{x}/** for 30m", Scope: "/wards/3"}
	if p.Break(get(t, p, doctor, "/wards/3/patients/7"), old) {
		t.Error("a grant for a ward opens a patient")
	}
}
