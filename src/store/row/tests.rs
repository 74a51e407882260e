use super::*;

fn keys() -> RowKeys {
    RowKeys::new(&Pepper::new(Zeroizing::new([7; 32])))
}

#[test]
fn any_flipped_bit_of_a_row_or_its_key_is_noticed() {
    let keys = keys();
    let key = 5_u64.to_be_bytes();
    let row = keys.seal_row(Table::TagSets, &key, &"tickets.*".to_string());
    assert_eq!(keys.open_row::<String>(Table::TagSets, &key, &row), Ok("tickets.*".to_string()));
    assert_eq!(keys.open_row::<String>(Table::Uses, &key, &row), Err(BadRow));
    for bit in 0..row.len() * 8 {
        let mut flipped = row.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(keys.open_row::<String>(Table::TagSets, &key, &flipped), Err(BadRow), "bit {bit}");
    }
    for bit in 0..64 {
        let mut flipped = key;
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(keys.open_row::<String>(Table::TagSets, &flipped, &row), Err(BadRow), "key bit {bit}");
    }
}

#[test]
fn a_tally_sees_a_row_that_is_missing_or_put_back() {
    let keys = keys();
    let key = 1_u64.to_be_bytes();
    let element = |text: &str| keys.element(Table::TagSets, &keys.seal_row(Table::TagSets, &key, &text.to_string()));
    let mut tally = Tally::default();
    tally.add(element("old"));
    let before = tally;
    tally.remove(element("old"));
    tally.add(element("new"));
    assert_eq!(tally.rows, 1);
    assert!(tally.seal(&keys, Table::TagSets) != before.seal(&keys, Table::TagSets));
    tally.remove(element("new"));
    assert!(tally == Tally::default());
}
