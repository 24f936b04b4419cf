"""How a report looks: on a screen, and on A4."""

STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, "Segoe UI", Roboto, sans-serif; color: #1a1a1a; max-width: 60rem; margin: 2rem auto;
  padding: 0 1rem; }
h1 { font-size: 1.7rem; margin-bottom: .2rem; }
h2 { font-size: 1.25rem; margin-top: 2.2rem; border-bottom: 1px solid #ccc; }
h3 { font-size: 1.02rem; margin-bottom: .2rem; }
.answer { font-size: 1.1rem; border-left: 4px solid #0072B2; padding: .3rem .8rem; background: #f3f7fb; }
.quiet, figcaption { font-size: .85rem; color: #444; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .85rem; margin: .8rem 0; }
th, td { text-align: left; padding: .2rem .7rem .2rem 0; border-bottom: 1px solid #ddd; vertical-align: top; }
thead th { border-bottom: 2px solid #888; }
figure { margin: 1rem 0 1.6rem; break-inside: avoid; }
figure svg, figure img { max-width: 100%; height: auto; }
.pair { display: flex; gap: 1rem; flex-wrap: wrap; }
.pair figure { flex: 1 1 100%; }
pre { font-size: .75rem; overflow-x: auto; background: #f6f6f6; padding: .6rem; white-space: pre-wrap; }
@page { size: A4; margin: 18mm; }
@media print {
  body { margin: 0; max-width: none; font-size: 10pt; }
  table { font-size: 7.5pt; }
  details:not([open]) { display: none; }
}
"""
