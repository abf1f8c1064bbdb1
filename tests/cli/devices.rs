use serde_json::Value;

use super::bpo::bpo;

#[test]
fn every_device_is_listed_with_what_it_needs_and_the_default_one_opens() {
    let rows = bpo(&["devices", "--json"]).rows();
    let names: Vec<&str> = rows.iter().map(|row| row["device"].as_str().unwrap()).collect();
    for name in ["flex", "tch", "cuda[:N]", "rocm[:N]", "wgpu", "vulkan", "metal", "cpu"] {
        assert!(names.contains(&name), "{name} is not in {names:?}");
    }
    for row in &rows {
        assert_eq!(row["built"] == true, row.get("opens").is_some(), "{row}");
        assert!(row["feature"].is_string() && (row["built"] == true || row["default"] == false), "{row}");
    }
    let defaults: Vec<&Value> = rows.iter().filter(|row| row["default"] == true).collect();
    assert_eq!(defaults.len(), 1);
    assert_eq!(defaults[0]["opens"], true, "{}", defaults[0]);
    assert!(defaults[0]["dtypes"].as_array().unwrap().contains(&"f32".into()), "{}", defaults[0]);
    if defaults[0]["device"] == "flex" {
        assert!(defaults[0]["threads"].as_u64().unwrap() > 0 && defaults[0]["instructions"].is_string());
    }
}

#[test]
fn the_table_has_a_line_per_device() {
    let (table, rows) = (bpo(&["devices"]), bpo(&["devices", "--json"]).rows());
    table.succeeded();
    assert_eq!(table.stdout.lines().count(), 1 + rows.len(), "{}", table.stdout);
}
